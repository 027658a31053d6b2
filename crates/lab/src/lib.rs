//! The lab: throwaway OpenSSH servers, and small networks of namespaces for tests and benches.
