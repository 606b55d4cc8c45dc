//! Layers that remove all objects of a run. Each layer is sufficient on its own for its objects; tests prove it by switching off all
//! others.

/// Layer of removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovalLayer {
    /// Regular removal at the end of a trial and of a run, whatever their result.
    Guard,
    /// SIGINT, SIGTERM and SIGHUP end a run gently instead of at once.
    Signal,
    /// Processes that read a pipe (the supervisor, a node's network sidecar) and remove everything when it closes.
    Supervisor,
    /// Removal by the kernel after the death of all processes: parent-death signals, leases of rules, queues that are bypassed.
    Kernel,
    /// Removal at the next start of objects found by their marks: containers by their labels, folders by their mark.
    Ledger,
}

/// Variable for tests: comma-separated names of the active layers. Unset = all.
const VARIABLE: &str = "CHAOSRUN_REMOVAL";

/// Variable for tests: objects made while it is set are ignored by processes with another value.
const APART: &str = "CHAOSRUN_REMOVAL_APART";

/// Returns the value of a variable for tests. Builds without debug assertions ignore it: removal cannot be switched off in a released
/// program.
fn of_tests(name: &str) -> Option<String> {
    if cfg!(debug_assertions) { std::env::var(name).ok() } else { None }
}

/// Returns the text that a test adds to the mark of an owner, so that no parallel test removes its objects.
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

/// Returns true if a run removes its objects at its end. `interrupted` means that a signal ended the run.
#[must_use]
pub fn tears_down(interrupted: bool) -> bool {
    if interrupted { RemovalLayer::Signal.works() } else { RemovalLayer::Guard.works() }
}

/// Returns name and value of the variable that names the active layers, for processes that do not inherit it. Returns `None` if it is
/// unset.
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
