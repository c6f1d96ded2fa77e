//! Findings: what is wrong, where, and what to do, with codes that never change their meaning.

use std::fmt;

/// Declares the codes, each with the title under which `docs/findings.md` explains it.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $title:literal;)*) => {
        /// The stable code of a finding, the same in messages, logs, metrics and warnings. `docs/findings.md` explains each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[doc = $doc])+ $name,)* }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code itself, `PC001`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What the code is about, in a few words.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// A file or directory could not be read.
    Unreadable = "PC001", "a rule file cannot be read";
    /// Not YAML or JSON.
    Syntax = "PC002", "a document is not YAML or JSON";
    /// A key that stands twice in one mapping.
    DuplicateKey = "PC003", "a key stands twice";
    /// A field that the document's kind does not have.
    UnknownField = "PC004", "a field is not known";
    /// A value of another type than the field's.
    WrongType = "PC005", "a value has the wrong type";
    /// A field that must be there, and with something in it.
    Missing = "PC006", "a field is missing or empty";
    /// A document of another kind or version.
    UnknownKind = "PC007", "a document is of another kind or version";
    /// A text that is no image pattern.
    ImagePattern = "PC008", "an image pattern cannot be used";
    /// A name that Kubernetes does not allow.
    Name = "PC009", "a name is not allowed";
    /// Not exactly one source, or one that does not go with the images.
    Source = "PC010", "the source of a credential is not clear";
    /// A label selector that Kubernetes does not allow.
    Selector = "PC011", "a label selector cannot be used";
    /// A text that is no duration.
    Duration = "PC012", "a duration cannot be read";
    /// Two rules with one name.
    DuplicateRule = "PC013", "two rules have one name";
    /// Not one of the values that a field takes.
    UnknownValue = "PC014", "a value is not one of those allowed";
    /// More, or longer, than allowed.
    TooLarge = "PC015", "something is larger than allowed";
    /// An image reference that the kubelet will not take.
    ImageReference = "PC101", "a Pod's image cannot be pulled by anybody";
    /// A review that does not hold a readable Pod.
    NotAPodReview = "PC102", "an AdmissionReview holds no readable Pod";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One step into a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A member of a mapping.
    Field(String),
    /// An item of a list, counted from 0.
    Item(usize),
}

/// Where in a document something stands: `spec.images[0]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// The path from its fields, for places without a list.
    pub fn of(fields: &[&str]) -> Self {
        Self(fields.iter().map(|field| Step::Field((*field).to_owned())).collect())
    }

    /// The path of a member of what this path names.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        self.then(Step::Field(name.to_owned()))
    }

    /// The path of an item of the list that this path names.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        self.then(Step::Item(index))
    }

    fn then(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Item(index) => write!(f, "[{index}]")?,
                // A label's key has dots of its own.
                Step::Field(name) if name.contains(['.', '/']) => write!(f, "[{name}]")?,
                Step::Field(name) if i == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
            }
        }
        Ok(())
    }
}

/// Something wrong within one document, wherever that document came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of fault.
    pub code: Code,
    /// The field; empty for the document as a whole.
    pub path: Path,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl Problem {
    pub(super) fn new(code: Code, path: Path, message: impl Into<String>) -> Self {
        Self { code, path, message: message.into() }
    }
}

/// `PC008 spec.images[0]: …`: how a problem reads in a condition, where the object is known.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.path.0.is_empty() {
            write!(f, " {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A problem and its place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, as it was named to us.
    pub file: String,
    /// Line, from 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// Column in characters, from 1; 0 when the file as a whole is meant.
    pub column: usize,
    /// What is wrong there.
    pub problem: Problem,
}

impl Finding {
    /// A finding about a file as a whole.
    pub fn about_file(file: &str, code: Code, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0, problem: Problem::new(code, Path::default(), message) }
    }
}

/// `rules/a.yaml:7:13: PC008 spec.images[0]: …`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, " {}", self.problem)
    }
}
