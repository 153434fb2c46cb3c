"""`autolr`: a rate is found, a schedule chosen, and the run guarded."""
