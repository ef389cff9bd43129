"""What makes the files in `models/`; never imported by the package. Needs the extra `train`."""
