"""From a data folder to training batches: readers, decoded images, samplers, augmentation."""
