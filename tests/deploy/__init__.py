"""The manifests of deploy/kubernetes, rendered and looked over."""
