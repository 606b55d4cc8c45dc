//! The tree of an expression, owned and with its place in the text.

use std::ops::Range;
use std::sync::Arc;

use super::Value;

/// A part of an expression.
#[derive(Debug)]
pub(super) struct Node {
    /// Bytes of the text.
    pub range: Range<usize>,
    pub kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Const(Value),
    Name(Arc<str>),
    Attr {
        of: Box<Node>,
        name: Arc<str>,
    },
    Item {
        of: Box<Node>,
        at: Box<Node>,
    },
    Slice {
        of: Box<Node>,
        start: Option<Box<Node>>,
        stop: Option<Box<Node>>,
    },
    Not(Box<Node>),
    Neg(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    /// `a < b <= c`: every neighbouring pair must hold.
    Compare {
        first: Box<Node>,
        rest: Vec<(Comparison, Node)>,
    },
    Arithmetic {
        operation: Operation,
        left: Box<Node>,
        right: Box<Node>,
    },
    If {
        condition: Box<Node>,
        then: Box<Node>,
        otherwise: Option<Box<Node>>,
    },
    Filter {
        of: Box<Node>,
        name: Arc<str>,
        arguments: Arguments,
    },
    Test {
        of: Box<Node>,
        name: Arc<str>,
        arguments: Arguments,
    },
    Call {
        name: Arc<str>,
        arguments: Arguments,
    },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub positional: Vec<Node>,
    pub named: Vec<(Arc<str>, Node)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

impl Comparison {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::In => "in",
            Self::NotIn => "not in",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Rem,
    Pow,
    /// `~`: joins as text.
    Concat,
}

impl Operation {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::FloorDiv => "//",
            Self::Rem => "%",
            Self::Pow => "**",
            Self::Concat => "~",
        }
    }
}

/// A part of a template.
#[derive(Debug)]
pub(super) enum Statement {
    Text(String),
    Emit(Node),
    If { condition: Node, then: Vec<Statement>, otherwise: Vec<Statement> },
    For { target: Target, over: Node, filter: Option<Node>, body: Vec<Statement>, otherwise: Vec<Statement> },
    Set { target: Target, value: Node },
    With { assignments: Vec<(Target, Node)>, body: Vec<Statement> },
}

/// The names that an assignment binds: one, or one for every part of a list.
#[derive(Debug)]
pub(super) struct Target(pub Vec<Arc<str>>);
