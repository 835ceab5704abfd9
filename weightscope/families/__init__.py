"""What each tensor is: families as data, fused layouts, assignment. Floor 2; needs no torch."""
