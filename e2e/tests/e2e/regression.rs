//! Bugs that somebody met. A test here is named after its issue, `issue_123`, begins with a line that
//! says what went wrong, and failed before the bug was mended.
