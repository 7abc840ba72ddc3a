# This file is maintained automatically by "terraform init".
# Manual edits may be lost in future updates.

provider "example.test/signalbox/volumes" {
  version     = "1.0.0"
  constraints = "1.0.0"
  hashes = [
    "h1:ADQ/Gr6TxQdcDobC3iUedLussg+BiGbDCY8nK9mUlOk=",
  ]
}
