//! Uplift: what an agent is worth between doing nothing and knowing everything.

/// Below this many seconds the two controls do not stand apart, and a quotient of them says nothing.
const APART: f64 = 1e-6;

/// `(noop - agent) / (noop - oracle)` of a number that is better when it is smaller, as `hurt` is, all three on the same seed.
/// 0 = no better than waiting, 1 = as good as knowing; below 0 it did harm, above 1 it was quicker than the oracle.
///
/// # Errors
/// Why there is none, in words: a control is missing or invalid, or waiting was no worse than knowing.
pub fn uplift(agent: f64, noop: Option<f64>, oracle: Option<f64>) -> Result<f64, &'static str> {
    let noop = noop.filter(|noop| noop.is_finite()).ok_or("no valid `noop` control on this seed")?;
    let oracle = oracle.filter(|oracle| oracle.is_finite()).ok_or("no valid `oracle` control on this seed")?;
    if !agent.is_finite() {
        return Err("nothing was measured of the agent");
    }
    if noop - oracle < APART {
        return Err("waiting was no worse than knowing on this seed");
    }
    Ok((noop - agent) / (noop - oracle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_waiting_and_one_is_knowing() {
        for (agent, expected) in [(8.0, 0.0), (0.5, 1.0), (4.25, 0.5), (15.5, -1.0), (0.0, 7.5_f64.recip().mul_add(0.5, 1.0))] {
            let found = uplift(agent, Some(8.0), Some(0.5)).expect("an uplift");
            assert!((found - expected).abs() < 1e-12, "{agent}: {found}");
        }
    }

    #[test]
    fn without_two_controls_that_stand_apart_there_is_none() {
        assert!(uplift(1.0, None, Some(0.5)).is_err_and(|why| why.contains("`noop`")));
        assert!(uplift(1.0, Some(f64::NAN), Some(0.5)).is_err_and(|why| why.contains("`noop`")));
        assert!(uplift(1.0, Some(8.0), None).is_err_and(|why| why.contains("`oracle`")));
        for (noop, oracle) in [(2.0, 2.0), (0.0, 0.0), (1.0, 2.0)] {
            assert!(uplift(1.0, Some(noop), Some(oracle)).is_err_and(|why| why.contains("no worse")), "{noop} {oracle}");
        }
        assert!(uplift(f64::INFINITY, Some(8.0), Some(0.5)).is_err());
    }
}
