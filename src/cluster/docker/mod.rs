//! The backend `docker`: a network a trial, a holder and a workload container a node.
