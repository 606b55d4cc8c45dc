//! Assignment of requests to turns of the script. Each agent has its own conversation, even if several agents with equal prompts run
//! concurrently.
//!
//! A request that contains no answer of a model begins a conversation. A repeated request, such as a client's retry, continues the
//! conversation that did not get its complete answer. Any other request continues the conversation in which the ids of its last tool calls
//! were created. A request without tool calls continues the conversation with the same first message and the same number of answers.

use std::collections::BTreeMap;

use super::seen::RequestParts;
use super::turn::Script;

/// Largest number of stored conversations. Beyond this number, the oldest conversations are forgotten.
const MOST: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Conversations {
    all: BTreeMap<u64, Conversation>,
    last: u64,
}

#[derive(Debug)]
struct Conversation {
    first: String,
    tag: String,
    /// Number of answers that the conversation got from each turn, by index of the turn.
    used: Vec<u32>,
    /// Number of errors that the conversation got from each turn before its answer, by index of the turn.
    failed: Vec<u32>,
    requests: u64,
    answers: usize,
    state: State,
    /// Digest of the last request in the conversation.
    request: blake3::Hash,
    /// Number of tokens of the last prompt in the conversation.
    prompt: u64,
    paused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The conversation waits for the next request.
    Free,
    /// The server is answering a request of the conversation.
    Busy,
    /// The last request of the conversation did not get its complete answer.
    Failed,
}

/// Turn of the script that answers a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChosenTurn {
    pub conversation: u64,
    /// Index of the turn in the script.
    pub turn: usize,
    /// True if the server sends the error of the turn instead of its answer.
    pub fails: bool,
    /// Number of the request in the conversation, counted from 1.
    pub request: u64,
    /// Id for the answer, different from the ids of all other answers.
    pub id: String,
    pub tag: String,
    /// Number of tokens of the previous prompt in the conversation.
    pub before: u64,
}

/// Reason why no turn of the script can answer a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoTurn {
    /// The request ends with a message of the model, although the model's last turn did not pause.
    Prefill,
    /// The script has no turn left for the conversation.
    Exhausted { conversation: u64, request: u64 },
}

impl Conversations {
    /// Chooses the turn that answers a request, and counts the answer or the error. The conversation stays busy until [`Self::finish`] is
    /// called.
    ///
    /// # Errors
    /// Returns the reason if no turn can answer the request.
    pub fn choose(&mut self, script: &Script, seen: &RequestParts, request: blake3::Hash) -> Result<ChosenTurn, NoTurn> {
        let number = self.find(seen, request).unwrap_or_else(|| self.begin(script, seen, request));
        let Some(conversation) = self.all.get_mut(&number) else {
            return Err(NoTurn::Exhausted { conversation: number, request: 0 });
        };
        if seen.continues && !conversation.paused {
            return Err(NoTurn::Prefill);
        }
        conversation.requests += 1;
        conversation.request = request;
        let context = script.context(seen, conversation.requests);
        let left = |at: usize| script.turns[at].repeat || conversation.used[at] == 0;
        let Some(at) = (0..script.turns.len()).find(|at| left(*at) && script.turns[*at].applies(&context)) else {
            return Err(NoTurn::Exhausted { conversation: number, request: conversation.requests });
        };
        let turn = &script.turns[at];
        let times = turn.error.as_ref().map_or(0, |error| error.times.unwrap_or(1));
        let fails = conversation.failed[at] < times;
        if fails {
            conversation.failed[at] += 1;
        }
        if !fails || (turn.only_fails() && conversation.failed[at] == times) {
            conversation.used[at] = conversation.used[at].saturating_add(1);
            conversation.failed[at] = 0;
        }
        conversation.state = State::Busy;
        let before = std::mem::replace(&mut conversation.prompt, seen.prompt);
        let id = blake3::hash(format!("{} {}", conversation.tag, conversation.requests).as_bytes()).to_hex()[..22].to_owned();
        Ok(ChosenTurn { conversation: number, turn: at, fails, request: conversation.requests, id, tag: conversation.tag.clone(), before })
    }

    /// Records that an answer of the conversation has ended. `whole` is true if the answer was sent completely.
    pub fn finish(&mut self, conversation: u64, whole: bool, paused: bool) {
        let Some(conversation) = self.all.get_mut(&conversation) else { return };
        conversation.state = if whole { State::Free } else { State::Failed };
        conversation.answers += usize::from(whole);
        conversation.paused = whole && paused;
    }

    fn find(&self, seen: &RequestParts, request: blake3::Hash) -> Option<u64> {
        let newest = || self.all.iter().rev().filter(|(_, one)| one.state != State::Busy);
        if let Some((number, _)) = newest().find(|(_, one)| one.state == State::Failed && one.request == request) {
            return Some(*number);
        }
        if seen.answers == 0 {
            return None;
        }
        let called = |one: &Conversation| seen.called.iter().any(|id| id.contains(&one.tag));
        let same = |one: &Conversation| seen.called.is_empty() && one.first == seen.first;
        let found = newest().find(|(_, one)| called(one));
        let found = found.or_else(|| newest().find(|(_, one)| same(one) && one.answers == seen.answers));
        found.or_else(|| newest().find(|(_, one)| same(one))).map(|(number, _)| *number)
    }

    fn begin(&mut self, script: &Script, seen: &RequestParts, request: blake3::Hash) -> u64 {
        self.last += 1;
        let same = self.all.values().filter(|one| one.first == seen.first).count();
        // The tag depends on the first message and on the number of earlier conversations with the same first message. Other concurrent
        // conversations therefore do not change ids.
        let tag = blake3::hash(format!("{same} {}", seen.first).as_bytes()).to_hex()[..10].to_owned();
        let turns = script.turns.len();
        let conversation = Conversation {
            first: seen.first.clone(),
            tag,
            used: vec![0; turns],
            failed: vec![0; turns],
            requests: 0,
            answers: 0,
            state: State::Free,
            request,
            prompt: 0,
            paused: false,
        };
        self.all.insert(self.last, conversation);
        if self.all.len() > MOST {
            self.all.pop_first();
        }
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(first: &str, answers: usize, called: &[&String]) -> RequestParts {
        let called = called.iter().map(|id| format!("toolu_01{id}")).collect();
        RequestParts { first: first.into(), last: first.into(), answers, called, ..RequestParts::default() }
    }

    fn hash(text: &str) -> blake3::Hash {
        blake3::hash(text.as_bytes())
    }

    #[test]
    fn concurrent_equal_agents_each_get_the_whole_script_once() {
        let script = Script::of_text("turns: [{ text: a }, { text: b }]").unwrap();
        let mut all = Conversations::default();
        let one = all.choose(&script, &seen("hi", 0, &[]), hash("1")).unwrap();
        let two = all.choose(&script, &seen("hi", 0, &[]), hash("1")).unwrap();
        assert_eq!((one.turn, two.turn), (0, 0));
        assert_ne!((one.conversation, &one.tag, &one.id), (two.conversation, &two.tag, &two.id));
        all.finish(one.conversation, true, false);
        all.finish(two.conversation, true, false);
        let more = all.choose(&script, &seen("hi", 1, &[&one.tag]), hash("2")).unwrap();
        assert_eq!((more.conversation, more.turn), (one.conversation, 1));
        all.finish(more.conversation, true, false);
        let over = all.choose(&script, &seen("hi", 2, &[&one.tag]), hash("3"));
        assert_eq!(over, Err(NoTurn::Exhausted { conversation: one.conversation, request: 3 }));
        // A request without calls continues the conversation with the same number of answers.
        let other = all.choose(&script, &seen("hi", 1, &[]), hash("4")).unwrap();
        assert_eq!((other.conversation, other.turn), (two.conversation, 1));
    }

    #[test]
    fn error_is_repeated_as_configured_and_then_answered() {
        let script = Script::of_text("turns: [{ error: { status: 529, times: 2 }, text: a }, { error: { status: 500 } }, { text: b }]");
        let script = script.unwrap();
        let mut all = Conversations::default();
        let mut ask = |whole: bool| {
            let chosen = all.choose(&script, &seen("hi", 0, &[]), hash("1")).unwrap();
            all.finish(chosen.conversation, whole, false);
            (chosen.conversation, chosen.turn, chosen.fails)
        };
        assert_eq!([ask(false), ask(false), ask(false)], [(1, 0, true), (1, 0, true), (1, 0, false)]);
        assert_eq!([ask(false), ask(true)], [(1, 1, true), (1, 2, false)]);
        // The first answer was complete, so an equal request comes from another agent.
        assert_eq!(ask(true), (2, 0, true));
    }

    #[test]
    fn turn_waits_for_its_condition_and_repeat_never_ends() {
        let script = "capture: { node: { from: last, pattern: 'node (\\w+)' } }\n\
                      turns: [{ when: node is defined, text: a }, { text: b, repeat: true }]";
        let script = Script::of_text(script).unwrap();
        let mut all = Conversations::default();
        let mut ask = |last: &str, answers: usize| {
            let chosen = all.choose(&script, &RequestParts { last: last.into(), ..seen("hi", answers, &[]) }, hash(last)).unwrap();
            all.finish(chosen.conversation, true, false);
            chosen.turn
        };
        assert_eq!([ask("x", 0), ask("y", 1), ask("node a", 2), ask("node b", 3)], [1, 1, 0, 1]);
    }

    #[test]
    fn only_a_paused_model_continues_by_itself() {
        let script = Script::of_text("turns: [{ text: a, stop: pause_turn }, { text: b }, { text: c }]").unwrap();
        let mut all = Conversations::default();
        let first = all.choose(&script, &seen("hi", 0, &[]), hash("1")).unwrap();
        all.finish(first.conversation, true, true);
        let goes_on = RequestParts { continues: true, ..seen("hi", 1, &[]) };
        let second = all.choose(&script, &goes_on, hash("2")).unwrap();
        assert_eq!(second.turn, 1);
        all.finish(second.conversation, true, false);
        assert_eq!(all.choose(&script, &RequestParts { answers: 2, ..goes_on }, hash("3")), Err(NoTurn::Prefill));
    }
}
