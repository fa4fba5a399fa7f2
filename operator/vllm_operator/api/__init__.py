"""What users write and read: the API types, their rules and the CRD made from them."""
