"""The one client of Label Studio."""
