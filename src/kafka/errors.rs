//! What an error of librdkafka means for whoever called.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::log::LogError;

/// Errors that librdkafka mends by itself and that say nothing about the next call.
pub fn is_passing(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::NotLeaderForPartition
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::NotCoordinator
            | RDKafkaErrorCode::CoordinatorNotAvailable
            | RDKafkaErrorCode::CoordinatorLoadInProgress
    )
}

/// What `code` means for the loop, `doing` being what failed.
pub fn classify(code: RDKafkaErrorCode, doing: &str) -> LogError {
    let text = format!("{doing}: {code}");
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed
        | RDKafkaErrorCode::GroupAuthorizationFailed
        | RDKafkaErrorCode::ClusterAuthorizationFailed
        | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
        | RDKafkaErrorCode::SaslAuthenticationFailed
        | RDKafkaErrorCode::Authentication
        | RDKafkaErrorCode::UnsupportedVersion
        | RDKafkaErrorCode::InvalidTopic
        | RDKafkaErrorCode::MessageSizeTooLarge
        | RDKafkaErrorCode::InvalidMessageSize => LogError::Fatal(text),
        _ => LogError::Unavailable(text),
    }
}

/// What a failed request means for the loop.
pub fn request_failed(what: &str, error: &KafkaError) -> LogError {
    match error.rdkafka_error_code() {
        Some(code) => classify(code, &format!("asking for {what}")),
        None => LogError::Unavailable(format!("asking for {what}: {error}")),
    }
}
