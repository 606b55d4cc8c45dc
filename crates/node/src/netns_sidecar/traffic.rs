//! Traffic counters of the namespace's interfaces.

use std::io;

/// Returns the bytes received and the bytes sent by all interfaces except loopback.
pub(super) fn traffic() -> io::Result<(u64, u64)> {
    // The file shows the namespace of this process, independent of the process that has mounted /proc.
    Ok(parse(&std::fs::read_to_string("/proc/self/net/dev")?))
}

/// Parses `/proc/net/dev` and returns the bytes received and sent. Format of a line: `eth0: bytes packets errs drop fifo frame compressed
/// multicast bytes ...`.
fn parse(text: &str) -> (u64, u64) {
    let interfaces = text.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    interfaces.fold((0, 0), |(received, sent), (_, counters)| {
        let counters: Vec<u64> = counters.split_ascii_whitespace().map(|word| word.parse().unwrap_or_default()).collect();
        (received + counters.first().unwrap_or(&0), sent + counters.get(8).unwrap_or(&0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_not_counted() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
                    lo: 4884 12 0 0 0 0 0 0 4884 12 0 0 0 0 0 0\n  \
                    eth0:1500 9 0 0 0 0 0 0 700 8 0 0 0 0 0 0\n  \
                    eth1: 1 1 0 0 0 0 0 0 2 8 0 0 0 0 0 0\n";
        assert_eq!(parse(text), (1501, 702));
    }
}
