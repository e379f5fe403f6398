//! Kinds of mistakes, by names that programs may rely on.

macro_rules! kinds {
    ($($variant:ident = $id:literal, $about:literal;)+) => {
        /// What sort of mistake a diagnostic is. Its id is part of docs/contract.md section 5:
        /// it is never renamed, and never used for something else.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($variant),+ }

        impl Kind {
            pub const ALL: &[Kind] = &[$(Kind::$variant),+];

            /// The stable name, such as `unknown-field`.
            pub fn id(self) -> &'static str {
                match self { $(Kind::$variant => $id),+ }
            }

            /// One sentence about every mistake of this kind.
            pub fn about(self) -> &'static str {
                match self { $(Kind::$variant => $about),+ }
            }
        }
    };
}

kinds! {
    Other = "mistake", "Something is wrong that has no name of its own.";
    Unreadable = "unreadable", "A file or folder cannot be read.";
    NoRules = "no-rules", "A folder of rules holds no rule.";
    Encoding = "encoding", "A file is not UTF-8 text.";
    ByteOrderMark = "byte-order-mark", "A file begins with a byte order mark.";
    NotYaml = "not-yaml", "A file is not readable YAML.";
    NotToml = "not-toml", "A file is not readable TOML.";
    Tab = "tab", "A tab indents a line.";
    Documents = "two-documents", "A file holds more than one document.";
    Anchor = "anchor", "A file uses an anchor, an alias, a merge key, a type tag or an include.";
    TooLarge = "too-large", "A file is nested too deeply, or too large for what it is.";
    EmptyFile = "empty-file", "A file says nothing.";
    UnknownField = "unknown-field", "A block has a field that does not exist there.";
    MissingField = "missing-field", "A block lacks a field that it needs.";
    DuplicateField = "duplicate-field", "A field stands twice in one block.";
    WrongType = "wrong-type", "A value is of another type than its field takes.";
    OutOfRange = "out-of-range", "A number, a length of time or a text is smaller or larger than its field allows.";
    UnknownWord = "unknown-word", "A value is none of the words that its field takes.";
    BadDuration = "bad-duration", "A length of time is not written as one, such as 5m.";
    BadText = "bad-text", "A text has another form than its field takes.";
    SchemaVersion = "schema-version", "A file names a version of its format that this program does not read.";
    DuplicateId = "duplicate-id", "Two rules of one folder have the same id.";
    ReusedId = "reused-id", "An id names something else than before, so its memory begins anew.";
    UnknownEventField = "unknown-event-field", "A rule tests a field that events do not have, or that no rule can test.";
    WrongTest = "wrong-test", "A test does not fit the field that it stands on.";
    BadPattern = "bad-pattern", "A glob cannot be read.";
    BadRegex = "bad-regex", "A regular expression cannot be read, is not linear, or is too large.";
    BadNetwork = "bad-network", "A network or an address is not written as one.";
    UnknownList = "unknown-list", "A rule names a list that lists.yaml does not have.";
    UnknownType = "unknown-type", "An event type is misspelt.";
    UnknownOutcome = "unknown-outcome", "An outcome does not exist.";
    UnknownCountry = "unknown-country", "A country is not written as its two capital letters, or is none.";
    UnknownValue = "unknown-value", "A value is probably a slip of a usual one.";
    NeverMatches = "never-matches", "A condition can hold for no event.";
    AlwaysMatches = "always-matches", "A condition holds for every event.";
    NeverFires = "never-fires", "What a rule asks for can never be reached.";
    AlwaysFires = "always-fires", "A threshold is reached by the first event.";
    Useless = "useless", "A setting changes nothing.";
    WrongAction = "wrong-action", "An action stands twice, or cannot be done for such a rule.";
    Expired = "expired", "An exception has ended.";
    FailedTest = "failed-test", "A test beside the rules fails, or passes only in another mode of a rule.";
}

impl Kind {
    /// Whether the mistake is one of form, which a JSON Schema can see too; the others need
    /// knowledge of lists, other files, or what events can be.
    pub fn is_form(self) -> bool {
        matches!(
            self,
            Kind::UnknownField
                | Kind::MissingField
                | Kind::WrongType
                | Kind::OutOfRange
                | Kind::UnknownWord
                | Kind::BadDuration
                | Kind::BadText
                | Kind::SchemaVersion
                | Kind::WrongTest
                | Kind::UnknownOutcome
                | Kind::UnknownCountry
                | Kind::EmptyFile
        )
    }
}
