"""Networks to look at: pretrained ones that come as a package, without a download."""
