# This file is maintained automatically by "terraform init".
# Manual edits may be lost in future updates.

provider "example.test/signalbox/volumes" {
  version     = "1.0.0"
  constraints = "1.0.0"
  hashes = [
    "h1:Nfz2ELr4dm3VNnn2wHHxicBVdq8wV2BJhnXNsyc3S0w=",
  ]
}
