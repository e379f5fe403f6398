//! Exit statuses (docs/contract.md section 5), and how an error asks for one.

use std::process::ExitCode;

use crate::log::LogError;

/// What the process ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    Done = 0,
    /// The thing checked failed, or the command could not finish.
    Failed = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Kafka, the mail server or another dependency could not be reached.
    Unreachable = 3,
}

impl Status {
    /// `error`, asking for this status.
    pub fn error(self, error: impl Into<anyhow::Error>) -> anyhow::Error {
        anyhow::Error::new(Asking {
            status: self,
            error: error.into(),
        })
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status as u8)
    }
}

/// Adds a status to the error of a result.
pub trait OrStatus<T> {
    /// The same result, whose error asks for `status`.
    ///
    /// # Errors
    /// The error that was there.
    fn or_status(self, status: Status) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> OrStatus<T> for Result<T, E> {
    fn or_status(self, status: Status) -> anyhow::Result<T> {
        self.map_err(|error| status.error(error))
    }
}

/// The status that `error` asks for: the outermost that was given, else what a failure of
/// the log means, else [`Status::Failed`].
pub fn status_of(error: &anyhow::Error) -> Status {
    for cause in error.chain() {
        if let Some(asking) = cause.downcast_ref::<Asking>() {
            return asking.status;
        }
        match cause.downcast_ref::<LogError>() {
            Some(LogError::Unavailable(_) | LogError::Stalled(_)) => return Status::Unreachable,
            Some(LogError::Fatal(_) | LogError::Fenced(_)) => return Status::Usage,
            Some(LogError::Lost(_)) | None => {}
        }
    }
    Status::Failed
}

/// Invisible in messages: shows and continues the error that it carries.
#[derive(Debug)]
struct Asking {
    status: Status,
    error: anyhow::Error,
}

impl std::fmt::Display for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Asking {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn an_error_keeps_its_status_and_its_causes_under_more_context() {
        let io = std::io::Error::other("refused");
        let error = Err::<(), _>(io)
            .context("no connection to 127.0.0.1:9092")
            .or_status(Status::Unreachable)
            .context("the topics cannot be read")
            .expect_err("it is one");
        assert_eq!(status_of(&error), Status::Unreachable);
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        assert_eq!(
            causes,
            [
                "the topics cannot be read",
                "no connection to 127.0.0.1:9092",
                "refused"
            ]
        );
    }

    #[test]
    fn an_unreachable_log_needs_no_further_word() {
        let error = anyhow::Error::new(LogError::Unavailable("no broker".into()));
        assert_eq!(status_of(&error), Status::Unreachable);
        assert_eq!(status_of(&anyhow::anyhow!("anything")), Status::Failed);
    }
}
