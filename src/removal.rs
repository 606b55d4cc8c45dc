//! The layers that remove what a run has made. Each is enough for what it guards; tests prove it by switching all others off.

/// A layer of removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// What is torn down at the end of a trial and of a run, whatever they came to.
    Guard,
    /// SIGINT, SIGTERM and SIGHUP end a run gently instead of at once.
    Signal,
    /// Who reads a pipe of ours (the supervisor, a node's holder) and undoes all at its end.
    Supervisor,
    /// What the kernel does when nobody is left: parent-death signals, leases of rules, queues that are bypassed.
    Kernel,
    /// What is found by its mark at the next start: containers by their labels, folders by their mark.
    Ledger,
}

/// Read here alone, for tests alone: the names of the layers that work, with commas between. Unset = all.
const VARIABLE: &str = "CHAOSRUN_REMOVAL";

/// As above: what is made with this set is left alone by all who do not have the same.
const APART: &str = "CHAOSRUN_REMOVAL_APART";

/// What a test adds to the mark of an owner, so that no test beside it removes what it has left.
#[must_use]
pub fn apart() -> Option<String> {
    let plain = |text: String| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    std::env::var(APART).ok().map(plain).filter(|text| !text.is_empty())
}

impl Layer {
    pub const ALL: [Self; 5] = [Self::Guard, Self::Signal, Self::Supervisor, Self::Kernel, Self::Ledger];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::Signal => "signal",
            Self::Supervisor => "supervisor",
            Self::Kernel => "kernel",
            Self::Ledger => "ledger",
        }
    }

    #[must_use]
    pub fn works(self) -> bool {
        passed_on().is_none_or(|(_, layers)| is_among(self, &layers))
    }
}

fn is_among(layer: Layer, layers: &str) -> bool {
    layers.split(',').any(|name| name.trim() == layer.as_str())
}

/// Whether a run tears down what it has: at its own end, or because of a signal.
#[must_use]
pub fn tears_down(interrupted: bool) -> bool {
    if interrupted { Layer::Signal.works() } else { Layer::Guard.works() }
}

/// What a process of ours that gets an environment of its own must be told; mostly nothing.
#[must_use]
pub fn passed_on() -> Option<(&'static str, String)> {
    Some((VARIABLE, std::env::var(VARIABLE).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_named_one_by_one() {
        let named = |layers: &str| Layer::ALL.into_iter().filter(|layer| is_among(*layer, layers)).collect::<Vec<_>>();
        assert_eq!(named("guard, kernel"), [Layer::Guard, Layer::Kernel]);
        assert_eq!(named("none"), []);
        assert!(Layer::ALL.into_iter().all(|layer| named(layer.as_str()) == [layer]));
    }
}
