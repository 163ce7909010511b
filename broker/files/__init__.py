"""Files that mini programs upload: storage, access by signed URL, quotas."""
