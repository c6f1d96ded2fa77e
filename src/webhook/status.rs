//! What is answered instead of a review: a Kubernetes `Status` that says what was wrong (apimachinery `metav1.Status`).

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

/// An answer with a `Status` of this message for a body.
pub(super) fn status(code: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let status = Status {
        status: Some("Failure".to_owned()),
        message: Some(message.to_owned()),
        reason: Some(reason(code).to_owned()),
        code: Some(code.as_u16().into()),
        ..Status::default()
    };
    // Serialising strings and numbers cannot fail.
    let mut response = Response::new(Full::from(serde_json::to_vec(&status).unwrap_or_default()));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 503 with what makes the API server ask again.
pub(super) fn come_again(message: &str) -> Response<Full<Bytes>> {
    let mut response = status(StatusCode::SERVICE_UNAVAILABLE, message);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The words of apimachinery's `StatusReason`.
fn reason(code: StatusCode) -> &'static str {
    match code {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
        StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLarge",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "UnsupportedMediaType",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => "Timeout",
        _ => "InternalError",
    }
}
