//! Refusals of SQS's form: `{"__type": …, "message": …}`, and the code of its older protocol in a header, by which clients still
//! tell them apart.

use serde_json::{Value, json};

use super::{MEDIA, TARGET};
use tollgate_api::http::{Header, Response};
use tollgate_api::problem::{Kind, Problem};

/// The header with the code.
const CODE: &str = "x-amzn-query-error";
/// What types of SQS itself begin with, and those that all of AWS has.
const SQS: &str = "com.amazonaws.sqs#";
const COMMON: &str = "com.amazon.coral.service#";

/// Our names of parts of a request, and theirs.
const NAMES: &[(&str, &str)] = &[
    ("header:x-partition-key", "MessageGroupId"),
    ("header:x-delay", "DelaySeconds"),
    ("header:idempotency-key", "MessageDeduplicationId"),
    (super::message_attributes::POINTER, "MessageAttributes"),
];

/// A refusal.
#[derive(Debug)]
pub(super) struct Fault {
    status: u16,
    /// The prefix of its type, and the rest.
    kind: (&'static str, &'static str),
    /// Of the older protocol.
    code: &'static str,
    message: String,
    /// Further headers.
    headers: Vec<Header>,
}

impl Fault {
    fn new(kind: (&'static str, &'static str), code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            kind,
            code,
            message: message.into(),
            headers: Vec::new(),
        }
    }

    /// One of those that SQS' calls have themselves.
    fn own(name: &'static str, code: &'static str, message: &str) -> Self {
        Self::new((SQS, name), code, message)
    }

    /// A member whose value is not allowed.
    pub(super) fn invalid(message: &str) -> Self {
        let kind = (COMMON, "InvalidParameterValueException");
        Self::new(kind, "InvalidParameterValue", message)
    }

    /// A member that is not there.
    pub(super) fn missing(name: &str) -> Self {
        let kind = (COMMON, "MissingRequiredParameterException");
        let message = format!("The request must contain the parameter {name}.");
        Self::new(kind, "MissingParameter", message)
    }

    /// No such group.
    pub(super) fn no_queue() -> Self {
        let code = "AWS.SimpleQueueService.NonExistentQueue";
        Self::own("QueueDoesNotExist", code, "The specified queue does not exist.")
    }

    /// No id of a lease, or of one that was never given out.
    pub(super) fn receipt(handle: &str) -> Self {
        let message = format!("The input receipt handle \"{handle}\" is not a valid receipt handle.");
        Self::own("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", &message)
    }

    /// A lease that holds no more; `why` ends the sentence.
    pub(super) fn late(handle: &str, why: &str) -> Self {
        let message = format!("Value {handle} for parameter ReceiptHandle is invalid. Reason: {why}");
        Self::invalid(&message)
    }

    /// The same of a message that is there, and with nobody or with somebody else.
    pub(super) fn not_in_flight() -> Self {
        let message = "The lease has ended: the message is not in flight by this receipt handle.";
        Self::own(
            "MessageNotInflight",
            "AWS.SimpleQueueService.MessageNotInflight",
            message,
        )
    }

    pub(super) fn attribute_name(name: &str) -> Self {
        let message = format!("Unknown Attribute {name}.");
        Self::own("InvalidAttributeName", "InvalidAttributeName", &message)
    }

    pub(super) fn empty_batch() -> Self {
        let code = "AWS.SimpleQueueService.EmptyBatchRequest";
        let message = "There should be at least one entry in the request.";
        Self::own("EmptyBatchRequest", code, message)
    }

    pub(super) fn too_many_entries() -> Self {
        let code = "AWS.SimpleQueueService.TooManyEntriesInBatchRequest";
        let message = "Maximum number of entries per request are 10.";
        Self::own("TooManyEntriesInBatchRequest", code, message)
    }

    pub(super) fn entry_id() -> Self {
        let code = "AWS.SimpleQueueService.InvalidBatchEntryId";
        let message = "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.";
        Self::own("InvalidBatchEntryId", code, message)
    }

    pub(super) fn same_entry_ids() -> Self {
        let code = "AWS.SimpleQueueService.BatchEntryIdsNotDistinct";
        let message = "Two or more batch entries in the request have the same Id.";
        Self::own("BatchEntryIdsNotDistinct", code, message)
    }

    /// What SQS does, and the gateway does not.
    pub(super) fn unsupported(action: &str) -> Self {
        let code = "AWS.SimpleQueueService.UnsupportedOperation";
        let message = format!(
            "{action} is not supported: groups are made and changed by /api/topics/{{topic}}/groups/{{group}}."
        );
        Self::own("UnsupportedOperation", code, &message)
    }

    pub(super) fn unknown_action() -> Self {
        let (header, prefix) = TARGET;
        let kind = (COMMON, "UnknownOperationException");
        let message = format!(
            "The header {header} names no operation that is known: {prefix}ReceiveMessage, for example. Only SQS's JSON protocol is \
             spoken, not the older one of forms."
        );
        Self::new(kind, "InvalidAction", message)
    }

    /// A signature without the key.
    pub(super) fn no_token() -> Self {
        let message = "Send the API key as the session token too (AWS_SESSION_TOKEN): the gateway keeps a hash of it only, so it \
                       cannot check a signature without it.";
        Self::from(Problem::unauthorized(message))
    }

    /// A signature that names another key than the one that was sent.
    pub(super) fn other_key() -> Self {
        Self::from(Problem::unauthorized(
            "The access key id is not the id of the API key that is sent as session token.",
        ))
    }

    /// A defect on our side.
    pub(super) fn internal() -> Self {
        Self::from(Problem::new(
            Kind::Internal,
            "The gateway's own answer cannot be read.",
        ))
    }

    /// Of a body that cannot be read as what it is to be.
    pub(super) fn of_body(problem: Problem) -> Self {
        let is_whole = problem.errors.iter().all(|error| error.pointer == "#");
        match is_whole {
            true => {
                let kind = (COMMON, "SerializationException");
                Self::new(kind, "MalformedInput", problem.detail)
            }
            false => Self::from(problem),
        }
    }

    /// What a batch tells of an entry.
    pub(super) fn entry(&self, id: &str) -> Value {
        json!({
            "Id": id, "SenderFault": self.status < 500, "Code": self.code, "Message": self.message,
        })
    }

    /// The answer that it is.
    pub(super) fn into_response(self) -> Response {
        let (prefix, name) = self.kind;
        let document = json!({ "__type": format!("{prefix}{name}"), "message": self.message });
        let whose = match self.status < 500 {
            true => "Sender",
            false => "Receiver",
        };
        let mut headers = vec![
            Header::new("content-type", MEDIA),
            Header::new(CODE, format!("{};{whose}", self.code)),
        ];
        headers.extend(self.headers);
        Response {
            status: self.status,
            headers,
            body: serde_json::to_vec(&document).unwrap_or_default(),
        }
    }
}

/// What a refusal of the gateway's own is there.
impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        let (kind, code) = match problem.kind {
            Kind::NotFound => return Self::no_queue(),
            Kind::InvalidRequest => return Self::invalid(&shown(&problem)),
            Kind::IdempotencyMismatch => {
                let message = "The MessageDeduplicationId was used with another message within five minutes.";
                return Self::invalid(message);
            }
            Kind::TooLarge => {
                let message = format!("One or more parameters are invalid. Reason: {}", problem.detail);
                return Self::invalid(&message);
            }
            Kind::Unauthorized => ("UnrecognizedClientException", "InvalidClientTokenId"),
            Kind::InvalidSignature => ("InvalidSignatureException", "SignatureDoesNotMatch"),
            Kind::Forbidden => ("AccessDeniedException", "AccessDenied"),
            Kind::Unavailable | Kind::BacklogFull | Kind::Timeout => {
                ("ServiceUnavailableException", "ServiceUnavailable")
            }
            _ if problem.kind.status() < 500 => ("ValidationException", "InvalidParameterCombination"),
            _ => ("InternalFailure", "InternalFailure"),
        };
        let status = problem.kind.status();
        let message = problem.detail.clone();
        // Also what a refusal has besides its document, such as Retry-After.
        let mut headers = problem.into_response().headers;
        headers.retain(|header| header.name != "content-type");
        Self {
            status,
            headers,
            ..Self::new((COMMON, kind), code, message)
        }
    }
}

impl From<tollgate_store::commit::StoreError> for Fault {
    fn from(error: tollgate_store::commit::StoreError) -> Self {
        Problem::from(error).into()
    }
}

/// The fields at fault, by their names there.
fn shown(problem: &Problem) -> String {
    let fields = problem.errors.iter().map(|error| {
        let theirs = NAMES.iter().find(|(ours, _)| *ours == error.pointer);
        let name = theirs.map_or_else(|| error.pointer.trim_start_matches("#/"), |(_, theirs)| theirs);
        format!("Value for parameter {name} is invalid. Reason: {}", error.detail)
    });
    let fields: Vec<String> = fields.collect();
    match fields.is_empty() {
        true => problem.detail.clone(),
        false => fields.join("; "),
    }
}
