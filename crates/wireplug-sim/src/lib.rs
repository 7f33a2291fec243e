//! A simulated internet on virtual time, for tests of the scheduler
