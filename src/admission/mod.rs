//! One AdmissionReview in, one answer out.
