//! Syntax tree of an expression. The tree owns its data, and each node has its range in the text.

use std::ops::Range;
use std::sync::Arc;

use super::Value;

/// Node of an expression's syntax tree.
#[derive(Debug)]
pub(super) struct ExprNode {
    /// Byte range of the node in the text of the expression.
    pub range: Range<usize>,
    pub kind: NodeKind,
}

#[derive(Debug)]
pub(super) enum NodeKind {
    Const(Value),
    Name(Arc<str>),
    Attr {
        of: Box<ExprNode>,
        name: Arc<str>,
    },
    Item {
        of: Box<ExprNode>,
        at: Box<ExprNode>,
    },
    Slice {
        of: Box<ExprNode>,
        start: Option<Box<ExprNode>>,
        stop: Option<Box<ExprNode>>,
    },
    Not(Box<ExprNode>),
    Neg(Box<ExprNode>),
    And(Box<ExprNode>, Box<ExprNode>),
    Or(Box<ExprNode>, Box<ExprNode>),
    /// Chain of comparisons such as `a < b <= c`. The chain is true if every pair of neighbours satisfies its comparison.
    Compare {
        first: Box<ExprNode>,
        rest: Vec<(ComparisonOperator, ExprNode)>,
    },
    Arithmetic {
        operation: ArithmeticOperation,
        left: Box<ExprNode>,
        right: Box<ExprNode>,
    },
    If {
        condition: Box<ExprNode>,
        then: Box<ExprNode>,
        otherwise: Option<Box<ExprNode>>,
    },
    Filter {
        of: Box<ExprNode>,
        name: Arc<str>,
        arguments: CallArguments,
    },
    Test {
        of: Box<ExprNode>,
        name: Arc<str>,
        arguments: CallArguments,
    },
    Call {
        name: Arc<str>,
        arguments: CallArguments,
    },
    List(Vec<ExprNode>),
    Map(Vec<(ExprNode, ExprNode)>),
}

#[derive(Debug, Default)]
pub(super) struct CallArguments {
    pub positional: Vec<ExprNode>,
    pub named: Vec<(Arc<str>, ExprNode)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ComparisonOperator {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

impl ComparisonOperator {
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
pub(super) enum ArithmeticOperation {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Rem,
    Pow,
    /// Operator `~`, which converts both sides to text and concatenates them.
    Concat,
}

impl ArithmeticOperation {
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

/// Statement of a template, such as a text, an emitted expression or a loop.
#[derive(Debug)]
pub(super) enum Statement {
    Text(String),
    Emit(ExprNode),
    If { condition: ExprNode, then: Vec<Statement>, otherwise: Vec<Statement> },
    For { target: AssignmentTarget, over: ExprNode, filter: Option<ExprNode>, body: Vec<Statement>, otherwise: Vec<Statement> },
    Set { target: AssignmentTarget, value: ExprNode },
    With { assignments: Vec<(AssignmentTarget, ExprNode)>, body: Vec<Statement> },
}

/// Names that an assignment binds: a single name, or one name per item of the assigned list.
#[derive(Debug)]
pub(super) struct AssignmentTarget(pub Vec<Arc<str>>);
