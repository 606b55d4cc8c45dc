//! Gate report as JUnit XML for CI servers. There is one test case per check, and one per combination of scenario and variant.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{rate, remark};
use chaosrun_analysis::gate::cases::CaseResults;
use chaosrun_analysis::gate::checks::{CheckState, GateCheck, GateFinding};
use chaosrun_analysis::gate::judge::GateJudgement;

/// Returns the gate report as XML.
///
/// # Errors
/// Returns an error if the report cannot be written as XML.
pub fn judgement(judgement: &GateJudgement) -> Result<String, String> {
    let mut report = Report::new("chaosrun gate");
    let mut rungs = TestSuite::new(format!("{}: rungs", judgement.name));
    rungs.add_property(("ruling", judgement.ruling.title()));
    rungs.add_property(("runs", judgement.runs.join(" ").as_str()));
    rungs.add_test_cases(judgement.rungs.iter().map(of_rung));
    let mut cases = TestSuite::new(format!("{}: cases", judgement.name));
    cases.add_test_cases(judgement.cases.iter().map(|case| of_case(judgement, case)));
    report.add_test_suites([rungs, cases]);
    report.to_string().map_err(|error| error.to_string())
}

fn of_rung(rung: &GateCheck) -> TestCase {
    let mut status = match rung.state {
        CheckState::Passed => TestCaseStatus::success(),
        CheckState::Skipped => TestCaseStatus::skipped(),
        CheckState::Inconclusive | CheckState::NotEvaluated => TestCaseStatus::non_success(NonSuccessKind::Error),
        CheckState::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
    };
    if rung.state != CheckState::Passed {
        status.set_message(rung.words.clone());
    }
    if !rung.findings.is_empty() {
        status.set_description(rung.findings.iter().map(told).collect::<Vec<_>>().join("\n"));
    }
    let mut case = TestCase::new(format!("{} {}", rung.step.number(), rung.step.title()), status);
    case.set_classname("gate");
    if rung.state == CheckState::Passed {
        case.set_system_out(rung.words.clone());
    }
    case
}

/// Returns the test case for one combination of scenario and variant. It contains all findings of the gate about this combination.
fn of_case(judgement: &GateJudgement, seen: &CaseResults) -> TestCase {
    let name = seen.name();
    let found = |state: CheckState| {
        let rungs = judgement.rungs.iter().filter(move |rung| rung.state == state);
        // Assigns findings about a whole variant to those cases of the variant that passed less often than before.
        let fewer = seen.before.is_some_and(|before| seen.now.rate() < before.rate());
        let of_it = |finding: &&GateFinding| finding.case == name || (fewer && finding.case == seen.variant);
        rungs.flat_map(|rung| &rung.findings).filter(of_it).collect::<Vec<_>>()
    };
    let (failed, open) = (found(CheckState::Failed), found(CheckState::NotEvaluated));
    let with = |kind, findings: &[&GateFinding]| {
        let mut status = TestCaseStatus::non_success(kind);
        status.set_message(findings.first().map(|finding| finding.words.clone()).unwrap_or_default());
        status.set_description(findings.iter().map(|finding| told(finding)).collect::<Vec<_>>().join("\n"));
        status
    };
    let status = if seen.control {
        let mut status = TestCaseStatus::skipped();
        status.set_message(format!("a control: {} passed", rate(seen.now)));
        status
    } else if !failed.is_empty() {
        with(NonSuccessKind::Failure, &failed)
    } else if !open.is_empty() {
        with(NonSuccessKind::Error, &open)
    } else {
        TestCaseStatus::success()
    };
    let mut case = TestCase::new(name, status);
    case.set_classname(seen.scenario.clone());
    case.add_property(("passed", rate(seen.now).as_str()));
    case.add_property(("baseline", seen.before.map_or_else(|| "-".to_owned(), rate).as_str()));
    let remark = remark(seen);
    if !remark.is_empty() {
        case.add_property(("remark", remark.as_str()));
    }
    case
}

fn told(finding: &GateFinding) -> String {
    let look = finding.trial.as_ref().map(|trial| format!(" (chaosrun show {trial})")).unwrap_or_default();
    format!("{}: {}{look}", finding.case, finding.words)
}
