"""What an annotator asks for in an open task: by a text, by clicks, by a box."""
