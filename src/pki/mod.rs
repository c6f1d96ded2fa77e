//! Certificate authorities and leaves.
