"""Cloud Monitoring on one machine: so far `filters`, the part of the filter grammar that an instance group may use."""
