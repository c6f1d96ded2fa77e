//! The two that are asked, how their answers are compared, and how a question on which they differ is made small.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

use super::questions;
use crate::support::control_plane;

/// One who answers questions: a program with its arguments.
pub struct Oracle(PathBuf, &'static [&'static str]);

impl Oracle {
    /// The kubelet's own packages.
    pub fn kubelet() -> Self {
        Self(control_plane::built().join("kubelet-oracle"), &[])
    }

    /// `pullcred oracle`.
    pub fn pullcred() -> Self {
        Self(env!("CARGO_BIN_EXE_pullcred").into(), &["oracle"])
    }

    /// A program that answers without arguments.
    pub fn program(path: &Path) -> Self {
        Self(path.to_owned(), &[])
    }

    /// Asks all questions, and gives the answers.
    pub fn ask(&self, questions: &[Value]) -> Vec<Value> {
        self.try_ask(questions).unwrap_or_else(|error| panic!("{}: {error}", self.0.display()))
    }

    /// The same; an error is a program that ended badly, as by a panic.
    pub fn try_ask(&self, questions: &[Value]) -> Result<Vec<Value>, String> {
        let mut child = Command::new(&self.0)
            .args(self.1)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut input = child.stdin.take().unwrap();
        let lines = questions.iter().map(Value::to_string).collect::<Vec<_>>().join("\n") + "\n";
        let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let written = writer.join().unwrap();
        if !output.status.success() {
            return Err(format!("ended with {}", output.status));
        }
        written.map_err(|error| error.to_string())?;
        let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let answers: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
        assert_eq!(answers.len(), questions.len(), "an answer for each question");
        Ok(answers)
    }
}

/// An answer as it is compared: error texts are each program's own, and several spellings of one key inside one Secret come
/// in random order from the kubelet, so that credentials of such questions are sorted.
pub fn comparable(mut answer: Value, sort: bool) -> Value {
    if let Some(answer) = answer.as_object_mut() {
        answer.remove("error");
    }
    if sort && let Some(credentials) = answer["credentials"].as_array_mut() {
        credentials.sort_by_key(Value::to_string);
    }
    answer
}

/// Asks the kubelet and pullcred about a table and about `cases` generated questions, and fails with the questions on which
/// they differ, shrunk.
pub fn compare(what: &str, table: Vec<Value>, strategy: &BoxedStrategy<Value>, cases: usize, sort: bool) {
    let (kubelet, pullcred) = (Oracle::kubelet(), Oracle::pullcred());
    let from_table = table.len();
    let mut trees = generated(strategy, cases);
    let questions: Vec<Value> = table.into_iter().chain(trees.iter().map(ValueTree::current)).collect();
    let (theirs, ours) = (kubelet.ask(&questions), pullcred.ask(&questions));
    let (mut valid, mut found, mut differing) = (0, 0, Vec::new());
    for (place, (theirs, ours)) in theirs.into_iter().zip(ours).enumerate() {
        let (theirs, ours) = (comparable(theirs, sort), comparable(ours, sort));
        valid += usize::from(theirs["ok"] == true);
        found += usize::from(
            theirs["matched"] == true || theirs["credentials"].as_array().is_some_and(|some| !some.is_empty()),
        );
        if theirs != ours {
            differing.push(place);
        }
    }
    println!(
        "{what}: {} questions, {valid} valid, {found} with a match, {} disagreements",
        questions.len(),
        differing.len()
    );
    assert!(valid > questions.len() / 10, "{what}: the questions are hardly ever valid, and show little");
    assert!(what == "parse" || found > questions.len() / 50, "{what}: hardly anything matches, which shows little");
    let one = |question: &Value| {
        let ask = |oracle: &Oracle| comparable(oracle.ask(std::slice::from_ref(question)).remove(0), sort);
        (ask(&kubelet), ask(&pullcred))
    };
    let tell = |place: &usize| {
        let question = match place.checked_sub(from_table) {
            None => questions[*place].clone(),
            Some(generated) => shrink(&mut *trees[generated], |question| {
                let (theirs, ours) = one(question);
                theirs != ours
            }),
        };
        let row = questions::row(&question, &kubelet.ask(std::slice::from_ref(&question)).remove(0));
        let (theirs, ours) = one(&question);
        let row = row.unwrap_or_else(|| question.to_string());
        format!("{row}\n  kubelet:  {theirs}\n  pullcred: {ours}")
    };
    let shown: Vec<String> = differing.iter().take(5).map(tell).collect();
    assert!(
        differing.is_empty(),
        "{what}: {} disagreements; put these into the tables in tests/offline/data/images:\n{}",
        differing.len(),
        shown.join("\n")
    );
}

/// Questions of a strategy, the same for the same seed: `PULLCRED_TEST_SEED`, or 1.
pub fn generated<T: std::fmt::Debug + 'static>(
    strategy: &BoxedStrategy<T>,
    cases: usize,
) -> Vec<Box<dyn ValueTree<Value = T>>> {
    let seed: u64 = std::env::var("PULLCRED_TEST_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    println!("seed {seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..cases).map(|_| strategy.new_tree(&mut runner).unwrap()).collect()
}

/// The smallest value that can be found with a property that the tree's present value has.
pub fn shrink<T: std::fmt::Debug>(tree: &mut dyn ValueTree<Value = T>, has: impl Fn(&T) -> bool) -> T {
    let mut best = tree.current();
    let mut smaller = tree.simplify();
    for _ in 0..2_000 {
        if !smaller {
            break;
        }
        let value = tree.current();
        smaller = if has(&value) {
            best = value;
            tree.simplify()
        } else {
            tree.complicate()
        };
    }
    best
}
