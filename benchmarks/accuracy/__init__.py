"""How well vertebrae are found and measured, beside the bars that were set: slow studies with a target each."""
