//! For tests: cases, backends, processes, conditions with a deadline.
