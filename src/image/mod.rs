//! How the kubelet reads image names and patterns.

mod pattern;
mod reference;

pub use pattern::{ImagePattern, ImagePatternError, Specificity};
pub use reference::{ImageReference, ImageReferenceError};
