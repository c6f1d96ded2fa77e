//! TLS handshakes that fail: why, and what that means to whoever runs the cluster. This is where a wrong `caBundle` shows.

use std::io;
use std::net::SocketAddr;

use rustls::{AlertDescription, Error};

use crate::process::logs::Seldom;
use crate::process::metrics::{LabelValue, label};

label! {
    /// Why a handshake failed.
    Failure, "reason":
    /// The caller does not accept our certificate.
    CertificateRefused = "certificate_refused",
    /// The caller speaks HTTP without TLS.
    PlainHttp = "plain_http",
    /// The caller speaks something else.
    NotTls = "not_tls",
    /// No version, cipher or protocol in common.
    Incompatible = "incompatible",
    /// Nothing came for too long.
    Timeout = "timeout",
    /// The caller went away: often a probe that only connects.
    Closed = "closed",
    /// Anything else.
    Other = "other",
}

impl Failure {
    /// What an error of the handshake means.
    pub(super) fn of(error: &io::Error) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe => Self::Closed,
                _ => Self::Other,
            };
        };
        match tls {
            // Go's client says `bad certificate` whatever it dislikes: authority, name or dates. Others say `decrypt error`
            // of an authority that has the right name and the wrong key.
            Error::AlertReceived(
                AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::DecryptError,
            ) => Self::CertificateRefused,
            Error::PeerIncompatible(_)
            | Error::NoApplicationProtocol
            | Error::AlertReceived(
                AlertDescription::ProtocolVersion
                | AlertDescription::HandshakeFailure
                | AlertDescription::NoApplicationProtocol,
            ) => Self::Incompatible,
            Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => Self::NotTls,
            _ => Self::Other,
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::CertificateRefused => {
                "the caller refuses our certificate: the caBundle of the webhook configuration does not match its authority, or \
                 the certificate is not valid for the name that was called, or not now"
            }
            Self::PlainHttp => "the caller speaks plain HTTP: this port serves HTTPS only",
            Self::NotTls => "the caller does not speak TLS",
            Self::Incompatible => {
                "the caller and we have no TLS version, cipher or protocol in common (TLS 1.2 or 1.3, HTTP/1.1)"
            }
            Self::Timeout => "the caller did not finish the TLS handshake in time",
            Self::Closed => "the caller closed the connection during the TLS handshake",
            Self::Other => "the TLS handshake failed",
        }
    }

    /// Says it, at a bounded rate for each reason.
    pub(super) fn say(self, peer: SocketAddr, error: Option<&io::Error>) {
        static SAID: [Seldom; Failure::ALL.len()] = [const { Seldom::at_most(1) }; Failure::ALL.len()];
        let Some(unsaid) = SAID[self.index()].now() else { return };
        let (reason, meaning) = (self.as_str(), self.meaning());
        let error = error.map(tracing::field::display);
        // Load balancers and the kubelet connect and close all day long.
        if self == Self::Closed {
            tracing::debug!(%peer, reason, error, unsaid, "{meaning}");
        } else {
            tracing::warn!(%peer, reason, error, unsaid, "{meaning}");
        }
    }
}
