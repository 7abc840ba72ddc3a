# The log volume of one environment. What the backend and the variables leave open, the runbook's steps say.
terraform {
  required_version = ">= 1.4"
  required_providers {
    volumes = {
      source  = "example.test/signalbox/volumes"
      version = "1.0.0"
    }
  }
  backend "http" {}
}

provider "volumes" {
  endpoint = var.endpoint
}

variable "endpoint" {
  type = string
}

variable "size_gb" {
  type = number
  validation {
    condition     = var.size_gb >= 10 && var.size_gb <= 2000 && floor(var.size_gb) == var.size_gb
    error_message = "A volume has 10 to 2000 whole GB."
  }
}

variable "tier" {
  type    = string
  default = "standard"
  validation {
    condition     = contains(["standard", "fast"], var.tier)
    error_message = "There are the tiers standard and fast."
  }
}

resource "volumes_volume" "log" {
  name    = "log"
  tier    = var.tier
  size_gb = var.size_gb
}

output "volume" {
  value = volumes_volume.log.id
}
