"""A small cloud: volumes that are real files, kept by a service with an API, and a Terraform provider for it."""
