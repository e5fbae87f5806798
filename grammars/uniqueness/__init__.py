"""Which keys and items of open JSON containers occurred, so that none is written twice."""
