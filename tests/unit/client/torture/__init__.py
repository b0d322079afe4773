"""Tests of sessionctl torture's parts."""
