//! Layers that remove all objects of a run from the machine. Each layer alone removes all objects in its scope. Tests prove this by
//! switching off all other layers.

/// Layer that removes objects of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovalLayer {
    /// Regular removal at the end of every trial and of every run, whatever the result.
    Guard,
    /// Handling of SIGINT, SIGTERM and SIGHUP, which end a run with its regular removal instead of at once.
    Signal,
    /// Processes that read a pipe from the runner (the supervisor, a node's network sidecar) and remove everything when the pipe closes.
    Supervisor,
    /// Removal by the kernel after the death of all processes: parent-death signals, timeouts of firewall rules, and queues that are
    /// bypassed without a reader.
    Kernel,
    /// Removal of marked objects at the next start of chaosrun: containers are found by labels, directories by a mark.
    Ledger,
}

/// Name of an environment variable for tests. Its value lists the names of the active layers, separated by commas. All layers are active if
/// it is unset.
const VARIABLE: &str = "CHAOSRUN_REMOVAL";

/// Name of an environment variable for tests. Processes ignore objects that were created under another value of this variable.
const APART: &str = "CHAOSRUN_REMOVAL_APART";

/// Returns the value of an environment variable for tests. Builds without debug assertions ignore the variable, so that removal cannot be
/// switched off in a release.
fn of_tests(name: &str) -> Option<String> {
    if cfg!(debug_assertions) { std::env::var(name).ok() } else { None }
}

/// Returns the text that a test adds to the mark of an owner, so that parallel tests do not remove the objects of this test.
#[must_use]
pub fn apart() -> Option<String> {
    let plain = |text: String| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    of_tests(APART).map(plain).filter(|text| !text.is_empty())
}

impl RemovalLayer {
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

fn is_among(layer: RemovalLayer, layers: &str) -> bool {
    layers.split(',').any(|name| name.trim() == layer.as_str())
}

/// Returns true if a run removes its objects at its end. `interrupted` is true if a signal ended the run.
#[must_use]
pub fn tears_down(interrupted: bool) -> bool {
    if interrupted { RemovalLayer::Signal.works() } else { RemovalLayer::Guard.works() }
}

/// Returns the name and the value of the variable that lists the active layers, for processes that do not inherit the environment. Returns
/// `None` if the variable is unset.
#[must_use]
pub fn passed_on() -> Option<(&'static str, String)> {
    Some((VARIABLE, of_tests(VARIABLE)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_selected_by_name() {
        let named = |layers: &str| RemovalLayer::ALL.into_iter().filter(|layer| is_among(*layer, layers)).collect::<Vec<_>>();
        assert_eq!(named("guard, kernel"), [RemovalLayer::Guard, RemovalLayer::Kernel]);
        assert_eq!(named("none"), []);
        assert!(RemovalLayer::ALL.into_iter().all(|layer| named(layer.as_str()) == [layer]));
    }
}
