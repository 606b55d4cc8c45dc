//! Tests of the guarantees of the language: strict comparisons by tables, three-valued logic by property tests, and the places of
//! diagnostics.

use proptest::prelude::*;
use serde_json::json;

use super::{ConditionTruth, Context, Expr, Scope, Template, UnknownReason, Value, unavailable};

fn context() -> Context {
    let mut context = Context::new()
        .with("n", 3)
        .with("half", 0.5)
        .with("text", "931GiB")
        .with("missing", json!(null))
        .with("id", 13_195_394_291_058_371_180_u64)
        .with(
            "stores",
            json!([{ "name": "a", "state": "Up", "kv": { "used": 10 } }, { "name": "b", "state": "Down", "kv": { "used": 30 } }]),
        )
        .with("store", json!({ "state_name": "Disconnected", "uptime": "1h0m10.5s", "capacity": "1.5GiB" }))
        .with("by_id", json!({ "1": 21, "2": 22 }));
    context.set(
        "probe",
        Value::from_pairs([
            ("ok", Value::from(false)),
            ("error", Value::from("connection refused")),
            ("json", unavailable("probe `probe` failed: connection refused")),
        ]),
    );
    let words = [Value::from("pd1"), unavailable("pd2 did not answer"), Value::from("pd1")];
    context.set("words", Value::from(words.to_vec()));
    context.set("votes", Value::from(vec![Value::from(true), unavailable("x"), Value::from(false)]));
    context
}

const KNOWN: &[&str] =
    &["n", "half", "text", "missing", "id", "stores", "store", "by_id", "probe", "words", "votes", "a", "b", "c", "limit"];

fn compile(text: &str) -> Expr {
    let known: Vec<String> = KNOWN.iter().map(|name| (*name).to_owned()).collect();
    Expr::compile(text, None, Scope::Observations, &known).unwrap_or_else(|problems| panic!("{text}: {problems:?}"))
}

#[test]
fn strictness() {
    use ConditionTruth::{False, True};
    let unknown = |reason: &str| ConditionTruth::Unknown(reason.to_owned());
    let table = [
        ("n < 4", True),
        ("n == 3.0", True),
        ("id == 13195394291058371180", True),
        ("id == 13195394291058371181", False),
        ("0 < n <= 3", True),
        ("1 < half < n", False),
        ("missing < 3", unknown("`missing` is null")),
        ("missing == 'Up'", unknown("`missing` is null")),
        ("missing != 'Up'", unknown("`missing` is null")),
        ("text > 100", unknown("`text > 100` compares text (\"931GiB\") with a number")),
        ("text == 100", unknown("`text == 100` compares text (\"931GiB\") with a number")),
        ("text > 'a'", unknown("`text > 'a'` orders text, expected numbers")),
        ("(n > 2) == 1", unknown("`(n > 2) == 1` compares a boolean (true) with a number")),
        ("(n > 2) == true", True),
        ("stores == n", unknown("`stores == n` compares a list with a number (3)")),
        ("n", unknown("`n` is a number, a condition needs true or false")),
        ("missing", unknown("`missing` is null")),
        ("not missing", unknown("`missing` is null")),
        ("missing is none", True),
        ("store.nothing is defined", False),
        ("probe.json.count is defined", unknown("probe `probe` failed: connection refused")),
        ("store.state_nam == 'Up'", unknown("`store` has no field `state_nam`, did you mean `state_name`?")),
        ("missing.x == 1", unknown("`missing` is null, so it has no `x`")),
        ("text.x == 1", unknown("`text` is text, it has no field `x`")),
        ("stores[5].state == 'Up'", unknown("`stores` has 2 items, no item 5")),
        ("stores[-1].state == 'Down'", True),
        ("probe.ok", False),
        ("probe.json.count == 3", unknown("probe `probe` failed: connection refused")),
        ("(probe.json.count | default(3)) == 3", unknown("probe `probe` failed: connection refused")),
        ("(store.count | default(3)) == 3", True),
        ("(missing | default(3)) == 3", True),
        ("n < 2 and probe.json.x", False),
        ("probe.json.x and n < 2", False),
        ("probe.json.x and n < 4", unknown("probe `probe` failed: connection refused")),
        ("probe.json.x or n < 4", True),
        ("n / 0 > 1", unknown("`n / 0` is not a number: 3 / 0")),
        ("text + 1 > 2", unknown("`text + 1` applies `+` to text and a number")),
        ("missing + 1 > 2", unknown("`missing + 1` uses null in a computation")),
        ("7 // 2 == 3 and 7 % 4 == 3 and 2 ** 3 == 8 and 1 / 2 == 0.5", True),
        ("by_id[1] == 21", True),
        ("by_id['2'] == 22", True),
        ("'Up' in stores | map(attribute='state')", True),
        ("'pd1' in words", True),
        ("'pd9' in words", unknown("pd2 did not answer")),
        ("'pd9' not in words", unknown("pd2 did not answer")),
        ("'Gi' in text", True),
        ("3 in text", unknown("`3 in text` compares a number with text (\"931GiB\")")),
        ("words | majority(of=3) == 'pd1'", True),
        ("words | majority(of=5) == 'pd1'", unknown("no majority: 2 of 5 say pd1")),
        ("votes | majority(of=3)", unknown("no majority: 1 of 3 say true")),
        ("[true, true, probe.json.x] | majority(of=3)", True),
        ("[false, false, probe.json.x] | majority(of=3)", False),
        ("[true, probe.json.x] | all", unknown("probe `probe` failed: connection refused")),
        ("[false, probe.json.x] | all", False),
        ("[true, probe.json.x] | any", True),
        ("[false, probe.json.x] | any", unknown("probe `probe` failed: connection refused")),
        ("stores | all('state', 'eq', 'Up')", False),
        ("stores | any('state', 'eq', 'Up')", True),
        ("stores | selectattr('state', 'eq', 'Up') | length == 1", True),
        ("stores | rejectattr('state', 'eq', 'Up') | map(attribute='name') | join(',') == 'b'", True),
        ("stores | sum(attribute='kv.used') == 40", True),
        ("stores | map(attribute='kv.used') | max == 30", True),
        ("[] | max > 1", unknown("`[] | max`: the list is empty")),
        ("[3, missing] | max > 1", unknown("`[3, missing] | max` finds null, expected numbers")),
        ("words | length == 3", True),
        ("words | join(',') == 'x'", unknown("pd2 did not answer")),
        ("store.uptime | seconds == 3610.5", True),
        ("store.capacity | bytes > size('1GiB')", True),
        ("text | seconds > 1", unknown("`text | seconds`: `931GiB` is not a duration")),
        ("dur('1m 30s') == 90 and dur('500ms') == half", True),
        ("(1 if probe.ok else 2) == 2", True),
        ("(1 if probe.json.x else 2) == 2", unknown("probe `probe` failed: connection refused")),
        ("text[0:3] == '931' and stores[1:] | length == 1", True),
        ("text is startingwith('931')", True),
        ("text | lower == '931gib' and text | replace('GiB', '') | int == 931", True),
        ("range(999999) | length > 1", unknown("`range` gives at most 10000 numbers")),
    ];
    let context = context();
    for (text, expected) in table {
        assert_eq!(compile(text).truth(&context), expected, "{text}");
    }
}

#[test]
fn problems_at_load_point_at_their_part() {
    let table = [
        ("stroes | length > 2", "unknown name `stroes`", "stroes", Some("did you mean `stores`?")),
        ("stores | lenght > 2", "unknown filter `lenght`", "lenght", Some("did you mean `length`?")),
        ("n is nul", "unknown test `nul`", "nul", None),
        ("nod('a').client", "unknown function `nod`", "nod", Some("did you mean `node`?")),
        ("majority(words)", "unknown function `majority`", "majority", Some("it is a filter: `... | majority`")),
        ("text.upper() == 'A'", "there are no methods here, found `.upper()`", "text.upper()", None),
        ("'931GiB' > 100", "`'931GiB' > 100` compares text with a number", "'931GiB' > 100", None),
        ("n == none", "a comparison with null is always unknown", "n == none", None),
        ("dur('fast') > 1", "'fast' is not a duration", "'fast'", Some("expected text like `500ms`, `1m 30s`, `2h`")),
        ("n > 1 and (half < )", "unexpected `)`", ")", None),
    ];
    let known: Vec<String> = KNOWN.iter().map(|name| (*name).to_owned()).collect();
    let file = std::sync::Arc::new(chaosrun_diagnostic::SourceFile { name: "x.yaml".into(), text: String::new() });
    let place = chaosrun_diagnostic::SourcePlace::new(file, chaosrun_diagnostic::Pointer::default());
    for (text, message, part, label) in table {
        let problems = Expr::compile(text, Some(place.clone()), Scope::Observations, &known).unwrap_err();
        let problem = &problems[0];
        let range = problem.place.as_ref().and_then(|place| place.inner.clone()).unwrap();
        assert_eq!((problem.message.as_str(), &text[range], problem.label.as_deref()), (message, part, label), "{problems:?}");
    }
    let problems = Expr::compile("value < 10s", None, Scope::Observations, &["value".into()]).unwrap_err();
    assert_eq!(problems[0].help.as_deref(), Some("quantities are numbers: write `dur('10s')`"));
    let nested = "(".repeat(120) + "1" + &")".repeat(120) + &"+1".repeat(300);
    assert!(Expr::compile(&nested, None, Scope::Observations, &[]).is_err());
    let problems = Expr::compile("stroes and stats", None, Scope::Observations, &[]).unwrap_err();
    assert_eq!(problems.len(), 2, "all problems at once");
}

#[test]
fn unknown_parts_carry_their_place() {
    let text = "n > 1 and store.state_nam == 'Up'";
    let unknown = compile(text).eval(&context()).unwrap_err();
    assert_eq!((&text[unknown.range.clone()], unknown.why, unknown.is_malformed()), ("store.state_nam", UnknownReason::Absent, true));
    let text = "n > 1 and (probe.json.x + 1) * 2 > 3";
    let unknown = compile(text).eval(&context()).unwrap_err();
    assert_eq!((&text[unknown.range.clone()], unknown.is_malformed()), ("probe.json", false));
}

#[test]
fn explanations_name_the_observed_and_the_expected_value() {
    let table = [
        ("store.state_name == 'Up'", "Disconnected", "== 'Up'"),
        ("n > 1 and half * 0.824690 >= 1", "0.4123", ">= 1"),
        ("half > n", "0.5", "> 3 (n)"),
        ("probe.ok", "connection refused", "ok"),
        ("not n > 2", "true", "not n > 2"),
        ("stores | all('state', 'eq', 'Up')", "false", "stores | all('state', 'eq', 'Up')"),
        ("probe.json.x > 3", "unknown: probe `probe` failed: connection refused", "> 3"),
        ("store.state_name in ['Up', 'Offline']", "Disconnected", "in ['Up', 'Offline']"),
        ("0 < n < 2", "3", "< 2"),
    ];
    for (text, observed, expected) in table {
        assert_eq!(compile(text).explain(&context()), (observed.to_owned(), expected.to_owned()), "{text}");
    }
}

#[test]
fn templates_render_strictly() {
    let render = |text: &str| {
        let known: Vec<String> = KNOWN.iter().map(|name| (*name).to_owned()).collect();
        let template = Template::compile(text, None, Scope::Observations, &known).unwrap_or_else(|problems| panic!("{problems:?}"));
        template.render(&context()).map_err(|unknown| unknown.reason)
    };
    let ok = |text: &str| Ok(text.to_owned());
    assert_eq!(render("plain\n"), ok("plain\n"));
    assert_eq!(render("{{ n }}/{{ half }}/{{ text }}\n"), ok("3/0.5/931GiB\n"));
    assert_eq!(
        render("{% for store in stores if store.state == 'Up' %}\n{{ loop.index }} {{ store.name }}\n{% endfor %}\nend\n"),
        ok("1 a\nend\n")
    );
    assert_eq!(
        render("{% for name, used in [['a', 1], ['b', 2]] %}{{ name }}{{ used }}{{ '' if loop.last else ',' }}{% endfor %}"),
        ok("a1,b2")
    );
    assert_eq!(render("{% set x = n + 1 %}{% if x > 3 %}{{ x }}{% else %}no{% endif %}"), ok("4"));
    assert_eq!(render("{{ stores | map(attribute='name') | join(',') }}"), ok("a,b"));
    assert_eq!(render("{{ stores[0] | tojson }} {{ 'a b/c' | urlencode }}"), ok(r#"{"kv":{"used":10},"name":"a","state":"Up"} a%20b%2Fc"#));
    assert_eq!(render("{{ text | b64encode }} {{ n | b64encode }} {{ 'w7w=' | b64decode }}"), ok("OTMxR2lC Mw== ü"));
    for bad in ["{{ 'w7' | b64decode }}", "{{ '/w==' | b64decode }}", "{{ n | b64decode }}", "{{ stores | b64encode }}"] {
        assert!(render(bad).is_err_and(|reason| reason.contains("expected")), "{bad}");
    }
    assert_eq!(render("{{ store.nothing }}"), Err("`store` has no field `nothing`, only `capacity`, `state_name`, `uptime`".into()));
    assert_eq!(render("{{ missing }}"), Err("`missing` is null".into()));
    assert_eq!(render("{% if missing %}x{% endif %}"), Err("`missing` is null".into()));
    assert!(render("{{ stores }}").is_err());
    assert!(
        Template::compile("{% include 'x' %}{% macro x() %}{% endmacro %}", None, Scope::Observations, &[]).is_err_and(|p| p.len() == 2)
    );
    assert!(Template::compile("{{ n", None, Scope::Observations, &["n".into()]).is_err());
}

/// Returns the truth value for 0 (false), 1 (unknown) or 2 (true). With this numbering, `and` is the minimum, `or` is the maximum, and
/// `not` is the reversal.
fn value_of(truth: u8) -> Value {
    match truth {
        0 => Value::from(false),
        1 => unavailable("open"),
        _ => Value::from(true),
    }
}

fn number_of(truth: &ConditionTruth) -> u8 {
    match truth {
        ConditionTruth::False => 0,
        ConditionTruth::Unknown(_) => 1,
        ConditionTruth::True => 2,
    }
}

proptest! {
    #[test]
    fn kleene_laws(a in 0_u8..3, b in 0_u8..3, c in 0_u8..3) {
        let mut context = Context::new();
        for (name, truth) in [("a", a), ("b", b), ("c", c)] {
            context.set(name, value_of(truth));
        }
        let eval = |text: &str| number_of(&compile(text).truth(&context));
        prop_assert_eq!(eval("a and b"), a.min(b));
        prop_assert_eq!(eval("a or b"), a.max(b));
        prop_assert_eq!(eval("not a"), 2 - a);
        prop_assert_eq!(eval("not (a and b)"), eval("not a or not b"));
        prop_assert_eq!(eval("a and (b or c)"), eval("(a and b) or (a and c)"));
        prop_assert_eq!(eval("[a, b, c] | all"), a.min(b).min(c));
        prop_assert_eq!(eval("[a, b, c] | any"), a.max(b).max(c));
        prop_assert_eq!(eval("not ([a, b, c] | all)"), eval("[not a, not b, not c] | any"));
        // No value of an unknown member contradicts a majority.
        let vote = eval("[a, b, c] | majority(of=3)");
        if vote != 1 {
            for guess in 0..8_u8 {
                let votes = [a, b, c].into_iter().enumerate();
                let yes: u8 = votes.map(|(place, truth)| if truth == 1 { (guess >> place) & 1 } else { truth / 2 }).sum();
                prop_assert_eq!(vote == 2, yes >= 2);
            }
        }
    }

    /// Tests the monotony of evaluation. If a result is known although a part is unknown, any value of that part gives the same result.
    #[test]
    fn knowledge_is_monotone(a in 0_i64..6, b in 0_i64..6, hole in 0_usize..3) {
        let texts = ["a < b or b < 3", "a == b and b > 1", "not (a >= b)", "[a < 2, b < 2] | all", "a in [b, 1, 2]", "(a if b > 2 else b) > 2", "a < b < 4", "[a, b, 1] | max > 2"];
        for text in texts {
            let full = Context::new().with("a", a).with("b", b);
            let mut holed = full.clone();
            if hole < 2 {
                holed.set(if hole == 0 { "a" } else { "b" }, unavailable("hole"));
            }
            let (with, without) = (compile(text).truth(&full), compile(text).truth(&holed));
            prop_assert!(matches!(without, ConditionTruth::Unknown(_)) || with == without, "{}: {:?} and {:?}", text, with, without);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "[a-c0-9 .()|<>=+*'{}%\\[\\],notandors]{0,60}") {
        let known: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let context = Context::new().with("a", 1).with("b", "x").with("c", json!([1, null]));
        if let Ok(expr) = Expr::compile(&text, None, Scope::Observations, &known) {
            let _ = (expr.truth(&context), expr.explain(&context));
        }
        if let Ok(template) = Template::compile(&text, None, Scope::Observations, &known) {
            let _ = template.render(&context);
        }
    }
}
