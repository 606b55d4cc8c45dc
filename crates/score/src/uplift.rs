//! Uplift: position of an agent on a scale from the control `noop` (0) to the control `oracle` (1).

/// Smallest difference between the measurements of the controls, in seconds. The uplift is meaningless for a smaller difference.
const APART: f64 = 1e-6;

/// Returns the uplift `(noop - agent) / (noop - oracle)` of a measurement whose lower values are better, such as `impact`. All three values
/// belong to the same seed. 0 means no better than waiting, and 1 as good as the oracle. Values below 0 mean harm. Values above 1 mean
/// better than the oracle.
///
/// # Errors
/// A control is missing or invalid, the agent has no measurement, or waiting was no worse than the oracle. The error is the reason in
/// words.
pub fn uplift(agent: f64, noop: Option<f64>, oracle: Option<f64>) -> Result<f64, &'static str> {
    let noop = noop.filter(|noop| noop.is_finite()).ok_or("no valid `noop` control on this seed")?;
    let oracle = oracle.filter(|oracle| oracle.is_finite()).ok_or("no valid `oracle` control on this seed")?;
    if !agent.is_finite() {
        return Err("the agent has no measurement");
    }
    if noop - oracle < APART {
        return Err("`noop` was as good as `oracle` on this seed");
    }
    Ok((noop - agent) / (noop - oracle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noop_is_zero_and_oracle_is_one() {
        for (agent, expected) in [(8.0, 0.0), (0.5, 1.0), (4.25, 0.5), (15.5, -1.0), (0.0, 7.5_f64.recip().mul_add(0.5, 1.0))] {
            let found = uplift(agent, Some(8.0), Some(0.5)).expect("an uplift");
            assert!((found - expected).abs() < 1e-12, "{agent}: {found}");
        }
    }

    #[test]
    fn uplift_requires_two_distinct_controls() {
        assert!(uplift(1.0, None, Some(0.5)).is_err_and(|why| why.contains("`noop`")));
        assert!(uplift(1.0, Some(f64::NAN), Some(0.5)).is_err_and(|why| why.contains("`noop`")));
        assert!(uplift(1.0, Some(8.0), None).is_err_and(|why| why.contains("`oracle`")));
        for (noop, oracle) in [(2.0, 2.0), (0.0, 0.0), (1.0, 2.0)] {
            assert!(uplift(1.0, Some(noop), Some(oracle)).is_err_and(|why| why.contains("as good as")), "{noop} {oracle}");
        }
        assert!(uplift(f64::INFINITY, Some(8.0), Some(0.5)).is_err());
    }
}
