"""A service mesh without a cluster: sidecars, certificates, redirect rules, applications and traffic."""
