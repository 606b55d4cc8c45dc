//! Process of a disk layer: mounts the layer, executes requests from stdin, and unmounts the layer at the end of stdin.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use fuser::{Config, INodeNo, MountOption, Notifier, SessionACL};

use super::backing::{LayerState, opened};
use super::layer::DiskLayer;
use super::wire::{LayerReply, LayerRequest};
use super::{memory, mounts};
use chaosrun_base::frame;
use chaosrun_base::frame::Reader;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder that holds the data
    #[arg(long, required_unless_present = "size")]
    from: Option<PathBuf>,
    /// Keep the data in memory, limited to this many bytes, instead of in a folder; the memory is freed when this process ends
    #[arg(long, conflicts_with = "from")]
    size: Option<u64>,
    /// Mount point
    #[arg(long)]
    at: PathBuf,
}

/// Runs the disk layer until the end of stdin.
///
/// # Errors
/// Returns an error, which is also written to stdout, if the layer cannot be mounted.
pub fn run(args: &Args) -> io::Result<()> {
    let served = serve(args);
    if let Err(error) = &served {
        // The process that reads stdout may have ended.
        let _ = say(LayerReply::Failed(error.to_string()));
    }
    served
}

fn serve(args: &Args) -> io::Result<()> {
    // The kernel has already applied the umask of the creating process.
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let at = args.at.canonicalize()?;
    let folder = match (&args.from, args.size) {
        (Some(from), _) => opened(from)?,
        (None, size) => memory::folder(&at, size.unwrap_or_default())?,
    };
    let shared = Arc::new(LayerState::new(folder)?);
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("data".into()), MountOption::DefaultPermissions];
    // Only root may let other users access a mount.
    config.acl = if nix::unistd::geteuid().is_root() { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(4);
    let session = fuser::spawn_mount(DiskLayer(Arc::clone(&shared)), &at, &config)?;
    let notifier = session.notifier();
    let served = (|| {
        say(LayerReply::Ready)?;
        let (mut asked, mut stdin) = (Reader::default(), io::stdin().lock());
        while let Some(ask) = asked.receive(&mut stdin)? {
            say(answer(ask, &shared, &notifier).unwrap_or_else(|error| LayerReply::Failed(error.to_string())))?;
        }
        Ok(())
    })();
    // Open files do not prevent the unmount.
    mounts::detach_below(&at);
    served
}

fn answer(ask: LayerRequest, shared: &LayerState, notifier: &Notifier) -> io::Result<LayerReply> {
    Ok(match ask {
        LayerRequest::Set(fault) => {
            shared.faults.set(fault);
            LayerReply::Done
        }
        LayerRequest::Counters => LayerReply::Counters(shared.faults.counters()),
        LayerRequest::Lose => {
            let loss = shared.lose()?;
            // An error only means that the kernel had no cached data.
            for file in loss.files {
                let _ = notifier.inval_inode(INodeNo(file), 0, 0);
            }
            for (folder, name) in loss.names {
                let _ = notifier.inval_entry(INodeNo(folder), &name);
            }
            LayerReply::Lost(loss.bytes)
        }
    })
}

fn say(told: LayerReply) -> io::Result<()> {
    frame::send(&mut io::stdout().lock(), told)
}
