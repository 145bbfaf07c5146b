"""Which animals are on photographs: detector and classifier of a study, or of a folder that it exported."""
