//! The RPM set: packages, their headers, payloads and digests.
