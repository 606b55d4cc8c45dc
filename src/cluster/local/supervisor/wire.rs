//! What runner and supervisor say to each other: small frames of length-prefixed fields.
//!
//! Written by hand because arguments and environments are bytes, not text, and because the supervisor should stay
//! tiny. A frame on the socket is its length (u32, big endian) and then one of these.

use std::io;

/// The longest frame that is accepted, in bytes: twice what the kernel takes as arguments and environment.
pub const MAX_FRAME: usize = 4 << 20;

/// From the runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Comes with three descriptors: stdin, stdout, stderr. Answered by `Started` or `Failed`, later `Exited`.
    Spawn(SpawnFrame),
    /// Answered by `Done`.
    Signal { request: u64, tree: u64, signal: i32, reach: Reach },
    /// SIGKILL until nothing is left. Answered by `Done` when nothing is.
    Kill { request: u64, tree: u64 },
    /// The same for all trees of a scope at once; later spawns in it are refused.
    KillScope { request: u64, scope: u64 },
    /// A directory that is removed when the runner dies without having removed it.
    RemoveAtEnd { path: Vec<u8> },
}

/// Whom a signal reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The process group of the first process.
    Group,
    /// Every process of the tree, daemonised ones too, and of the trees that live with it.
    Tree,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnFrame {
    /// Chosen by the runner, never used twice.
    pub tree: u64,
    /// What is killed together at the end: a trial.
    pub scope: u64,
    /// The tree this one dies with: a command inside a node. 0 = none.
    pub with: u64,
    /// Whether what the first process leaves behind may live on after its exit.
    pub linger: bool,
    /// What is executed; the first of `argv` is only what it is called.
    pub program: Vec<u8>,
    pub argv: Vec<Vec<u8>>,
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    pub dir: Vec<u8>,
    /// The value of [`super::MARKER`] in the environment.
    pub marker: Vec<u8>,
}

/// From the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    Started {
        tree: u64,
        pid: u32,
    },
    Failed {
        tree: u64,
        errno: i32,
        message: String,
    },
    /// The first process of the tree was reaped. `signal` is 0 when it ended with `code`.
    Exited {
        tree: u64,
        code: i32,
        signal: i32,
    },
    /// `errno` is 0 when all went well.
    Done {
        request: u64,
        errno: i32,
    },
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed frame: {what}"))
}

/// Fields on their way out.
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn new(tag: u8) -> Self {
        Self(vec![tag])
    }
    fn number(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }
    fn signed(mut self, value: i32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }
    fn flag(mut self, value: bool) -> Self {
        self.0.push(u8::from(value));
        self
    }
    fn bytes(mut self, value: &[u8]) -> Self {
        self = self.number(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }
}

/// Fields on their way in.
struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take(&mut self, len: usize) -> io::Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len).ok_or_else(|| malformed("too short"))?;
        self.0 = rest;
        Ok(head)
    }
    fn byte(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }
    fn number(&mut self) -> io::Result<u64> {
        let bytes = self.take(8)?.try_into().map_err(|_| malformed("number"))?;
        Ok(u64::from_be_bytes(bytes))
    }
    fn signed(&mut self) -> io::Result<i32> {
        let bytes = self.take(4)?.try_into().map_err(|_| malformed("number"))?;
        Ok(i32::from_be_bytes(bytes))
    }
    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.number()?).map_err(|_| malformed("length"))?;
        Ok(self.take(len)?.to_vec())
    }
    fn end(self) -> io::Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(malformed("too long")) }
    }
}

impl Request {
    pub fn encode(&self) -> Vec<u8> {
        let out = match self {
            Self::Spawn(spawn) => {
                let mut out = Out::new(0).number(spawn.tree).number(spawn.scope).number(spawn.with).flag(spawn.linger);
                out = out.bytes(&spawn.program).bytes(&spawn.dir).bytes(&spawn.marker).number(spawn.argv.len() as u64);
                for word in &spawn.argv {
                    out = out.bytes(word);
                }
                out = out.number(spawn.env.len() as u64);
                for (name, value) in &spawn.env {
                    out = out.bytes(name).bytes(value);
                }
                out
            }
            Self::Signal { request, tree, signal, reach } => {
                Out::new(1).number(*request).number(*tree).signed(*signal).flag(*reach == Reach::Tree)
            }
            Self::Kill { request, tree } => Out::new(2).number(*request).number(*tree),
            Self::KillScope { request, scope } => Out::new(3).number(*request).number(*scope),
            Self::RemoveAtEnd { path } => Out::new(4).bytes(path),
        };
        out.0
    }

    pub fn decode(frame: &[u8]) -> io::Result<Self> {
        let mut input = In(frame);
        let request = match input.byte()? {
            0 => {
                let (tree, scope, with, linger) = (input.number()?, input.number()?, input.number()?, input.byte()? == 1);
                let (program, dir, marker) = (input.bytes()?, input.bytes()?, input.bytes()?);
                let argv = (0..input.number()?).map(|_| input.bytes()).collect::<io::Result<_>>()?;
                let env = (0..input.number()?).map(|_| Ok((input.bytes()?, input.bytes()?))).collect::<io::Result<_>>()?;
                Self::Spawn(SpawnFrame { tree, scope, with, linger, program, argv, env, dir, marker })
            }
            1 => {
                let (request, tree, signal) = (input.number()?, input.number()?, input.signed()?);
                Self::Signal { request, tree, signal, reach: if input.byte()? == 1 { Reach::Tree } else { Reach::Group } }
            }
            2 => Self::Kill { request: input.number()?, tree: input.number()? },
            3 => Self::KillScope { request: input.number()?, scope: input.number()? },
            4 => Self::RemoveAtEnd { path: input.bytes()? },
            tag => return Err(malformed(&format!("request {tag}"))),
        };
        input.end()?;
        Ok(request)
    }
}

impl Report {
    pub fn encode(&self) -> Vec<u8> {
        let out = match self {
            Self::Started { tree, pid } => Out::new(0).number(*tree).number(u64::from(*pid)),
            Self::Failed { tree, errno, message } => Out::new(1).number(*tree).signed(*errno).bytes(message.as_bytes()),
            Self::Exited { tree, code, signal } => Out::new(2).number(*tree).signed(*code).signed(*signal),
            Self::Done { request, errno } => Out::new(3).number(*request).signed(*errno),
        };
        out.0
    }

    pub fn decode(frame: &[u8]) -> io::Result<Self> {
        let mut input = In(frame);
        let report = match input.byte()? {
            0 => Self::Started { tree: input.number()?, pid: u32::try_from(input.number()?).map_err(|_| malformed("pid"))? },
            1 => {
                let (tree, errno, message) = (input.number()?, input.signed()?, input.bytes()?);
                Self::Failed { tree, errno, message: String::from_utf8_lossy(&message).into_owned() }
            }
            2 => Self::Exited { tree: input.number()?, code: input.signed()?, signal: input.signed()? },
            3 => Self::Done { request: input.number()?, errno: input.signed()? },
            tag => return Err(malformed(&format!("report {tag}"))),
        };
        input.end()?;
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_journey_and_garbage_is_refused() {
        let spawn = Request::Spawn(SpawnFrame {
            tree: 7,
            scope: 1,
            with: 3,
            linger: true,
            program: b"/bin/\xffodd".to_vec(),
            argv: vec![b"odd".to_vec(), b"\xfe\x00".to_vec(), Vec::new()],
            env: vec![(b"K\xff".to_vec(), b"v=\xfd".to_vec())],
            dir: b"/tmp".to_vec(),
            marker: b"m".to_vec(),
        });
        let requests = [
            spawn,
            Request::Signal { request: 1, tree: 2, signal: 9, reach: Reach::Tree },
            Request::Kill { request: u64::MAX, tree: 2 },
            Request::KillScope { request: 4, scope: 2 },
            Request::RemoveAtEnd { path: b"/x".to_vec() },
        ];
        for request in requests {
            let frame = request.encode();
            assert_eq!(Request::decode(&frame).unwrap(), request);
            for cut in 0..frame.len() {
                assert!(Request::decode(&frame[..cut]).is_err(), "cut at {cut}");
            }
            assert!(Request::decode(&[&frame[..], &[0]].concat()).is_err(), "a byte too many");
        }
        let reports = [
            Report::Started { tree: 1, pid: 2 },
            Report::Failed { tree: 1, errno: 2, message: "no `x`".into() },
            Report::Exited { tree: 1, code: 0, signal: 9 },
            Report::Done { request: 3, errno: 0 },
        ];
        for report in reports {
            assert_eq!(Report::decode(&report.encode()).unwrap(), report);
        }
        assert!(Report::decode(&[9]).is_err());
    }
}
