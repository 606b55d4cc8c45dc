//! Request parameters that current models no longer accept. A model name without a version follows the rules of the newest version.

/// Parses family and version in the name of a model. For example, `claude-opus-4-7-20260101` gives `("opus", 4, 7)`.
fn version(model: &str) -> Option<(&str, u32, u32)> {
    let mut words = model.strip_prefix("claude-")?.split('-');
    let family = words.next()?;
    let major = words.next()?.parse().ok()?;
    // A longer number is the date of the model.
    let minor = words.next().filter(|word| word.len() <= 2).and_then(|word| word.parse().ok()).unwrap_or(0);
    Some((family, major, minor))
}

fn is_at_least(model: &str, since: &[(&str, u32, u32)]) -> bool {
    let Some((family, major, minor)) = version(model) else { return true };
    since.iter().any(|(known, from, and)| *known == family && (major, minor) >= (*from, *and))
}

pub(crate) fn refuses_forced_tools(model: &str) -> bool {
    is_at_least(model, &[("fable", 5, 1), ("mythos", 5, 1), ("opus", 5, 5), ("sonnet", 5, 5)])
}

pub(crate) fn always_thinks(model: &str) -> bool {
    is_at_least(model, &[("fable", 5, 0), ("opus", 5, 5)])
}

pub(crate) fn refuses_budgets(model: &str) -> bool {
    is_at_least(model, &[("fable", 0, 0), ("mythos", 0, 0), ("opus", 4, 7), ("sonnet", 5, 0)])
}

pub(crate) fn refuses_sampling(model: &str) -> bool {
    refuses_budgets(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_apply_from_a_version_on() {
        assert_eq!(version("claude-opus-4-7-20260101"), Some(("opus", 4, 7)));
        assert_eq!(version("claude-fable-5-20260101"), Some(("fable", 5, 0)));
        assert!(refuses_forced_tools("claude-fable-5-1") && !refuses_forced_tools("claude-fable-5-20260101"));
        assert!(refuses_budgets("claude-opus-5-5") && !refuses_budgets("claude-opus-4-6") && !refuses_budgets("claude-haiku-5-5"));
        assert!(always_thinks("something"));
    }
}
