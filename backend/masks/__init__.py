"""Masks <-> what Label Studio stores."""
