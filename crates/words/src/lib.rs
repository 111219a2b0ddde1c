//! Words that every layer shares: origins, diagnostics, host names, durations.
