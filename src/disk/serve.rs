//! The process of a layer: mounts, does what it is told on its stdin, and leaves nothing mounted when that ends.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;

use fuser::{Config, INodeNo, MountOption, Notifier, SessionACL};

use super::backing::{Shared, opened};
use super::layer::Layer;
use super::wire::{Ask, Told};
use super::{memory, mounts};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder that has everything
    #[arg(long, required_unless_present = "size")]
    from: Option<PathBuf>,
    /// Or memory of so many bytes, which ends with this process
    #[arg(long, conflicts_with = "from")]
    size: Option<u64>,
    /// Where it is seen
    #[arg(long)]
    at: PathBuf,
}

/// Runs until stdin ends.
///
/// # Errors
/// When it cannot be mounted. That is said on stdout, too.
pub fn run(args: &Args) -> io::Result<()> {
    let served = serve(args);
    if let Err(error) = &served {
        // Nobody may be there to hear it.
        let _ = say(&Told::Failed(error.to_string()));
    }
    served
}

fn serve(args: &Args) -> io::Result<()> {
    // Who makes a file has said already what is not allowed.
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let at = args.at.canonicalize()?;
    let folder = match (&args.from, args.size) {
        (Some(from), _) => opened(from)?,
        (None, size) => memory::folder(&at, size.unwrap_or_default())?,
    };
    let shared = Arc::new(Shared::new(folder)?);
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("data".into()), MountOption::DefaultPermissions];
    // Who is not root is not allowed to let others in.
    config.acl = if nix::unistd::geteuid().is_root() { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(4);
    let session = fuser::spawn_mount(Layer(Arc::clone(&shared)), &at, &config)?;
    let notifier = session.notifier();
    let served = (|| {
        say(&Told::Ready)?;
        for line in io::stdin().lock().lines() {
            let told = serde_json::from_str(&line?).map_err(io::Error::from).and_then(|ask| answer(ask, &shared, &notifier));
            say(&told.unwrap_or_else(|error| Told::Failed(error.to_string())))?;
        }
        Ok(())
    })();
    // Whoever has files open keeps nobody from it.
    mounts::detach_below(&at);
    served
}

fn answer(ask: Ask, shared: &Shared, notifier: &Notifier) -> io::Result<Told> {
    Ok(match ask {
        Ask::Set(fault) => {
            shared.faults.set(fault);
            Told::Done
        }
        Ask::Counters => Told::Counters(shared.faults.counters()),
        Ask::Lose => {
            let loss = shared.lose()?;
            // What the kernel has not heard of it needs not forget.
            for file in loss.files {
                let _ = notifier.inval_inode(INodeNo(file), 0, 0);
            }
            for (folder, name) in loss.names {
                let _ = notifier.inval_entry(INodeNo(folder), &name);
            }
            Told::Lost(loss.bytes)
        }
    })
}

fn say(told: &Told) -> io::Result<()> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}
