//! The filters and tests there are.

/// Filters of our own: three-valued, or strict where minijinja's are not.
pub(super) const FILTERS: &[&str] = &[
    "all",
    "any",
    "bytes",
    "count",
    "d",
    "default",
    "first",
    "float",
    "int",
    "join",
    "last",
    "length",
    "majority",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "seconds",
    "select",
    "selectattr",
    "string",
    "sum",
    "tojson",
    "urlencode",
];

/// Filters that minijinja's own do well. Anything unknown or null in makes unknown out.
pub(super) const PLAIN_FILTERS: &[&str] = &[
    "abs", "batch", "capitalize", "chain", "dictsort", "format", "groupby", "indent", "items", "lines", "list", "lower", "replace",
    "reverse", "round", "slice", "sort", "split", "title", "trim", "unique", "upper", "zip",
];

/// Tests, all of our own.
pub(super) const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "even",
    "false",
    "float",
    "ge",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
];
/// Tests that are operators: `select('==', 'Up')`.
pub(super) const OPERATOR_TESTS: &[&str] = &["==", "!=", "<", "<=", ">", ">="];
