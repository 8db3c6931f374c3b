"""The location of this machine: as stated, of the cloud region, or looked up."""
