"""`borderless finetune`: a pretrained network under another border, trained further on anyone's images, and audited."""

import tyro

from borderless.cli.options import FinetuneOptions, split_off_network


def execute(words: list[str]) -> None:
    """Fine-tune the network that the first word names; print the audits' tables and where the weights are."""
    if not words or words[0] in ("-h", "--help"):
        print(
            "Usage: borderless finetune NAME --data FOLDER [options], with NAME a network of torchvision or timm/NAME\n"
            "       borderless finetune FILE --arch NAME --data FOLDER [options], with FILE its state dict\n"
        )
        words = ["NAME", "--help"]
    name, words = split_off_network("finetune", words)
    options = tyro.cli(tyro.conf.OmitArgPrefixes[FinetuneOptions], args=words, prog=f"borderless finetune {name}")
    # Not before the options are read: PyTorch takes seconds.
    from borderless.cli.finetuning import finetune_network
    from borderless.cli.tables import print_table
    from borderless.runtime.distributed import joined

    with joined() as group:
        outcome = finetune_network(name, options)
    if not group.is_leader:
        return
    for table in outcome.tables:
        print_table(table)
    before = "" if outcome.accuracy_before is None else f"{100 * outcome.accuracy_before:.1f} % converted, "
    print(f"Accuracy on the test images: {before}{100 * outcome.accuracy:.1f} % fine-tuned")
    print(f"The weights are in {outcome.weights}; in Python, with borderless.models.load:\n  {outcome.loading}")
    if outcome.page is not None:
        print(f"Both audits side by side are in {outcome.page}")
